"""The walls on a GPU: what holds there, an honest CUDA training inside them, and attacks on the card's memory.

    PYTHONPATH=. python benchmarks/gpu_walls.py [--level required|best_effort] [--share 0.5] [--scratch DIR]

Needs torch with CUDA, numpy and a card; neither Ray nor prepared data: the rows are random. Prints the promises as they
were found by trying, then one line an experiment. Exits with 1 if anything came out otherwise than it should.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from autoresearch_ray.training.sandbox.settings import SandboxSettings
from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY, LENGTH = 512, 256

HONEST = """
import os, time, torch, torch.nn as nn, torch.nn.functional as F
from prepare import DEVICE, MAX_SEQ_LEN, VOCAB_SIZE, evaluate_bpb, make_dataloader
torch.manual_seed(0)
begun = time.time()
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCAB_SIZE, 256), nn.Linear(256, VOCAB_SIZE)
        self.mix = nn.GRU(256, 256, batch_first=True) if not COMPILED else nn.Linear(256, 256)
    def forward(self, x):
        h = self.embedding(x)
        return self.head(F.relu(self.mix(h)) if COMPILED else self.mix(h)[0]).float()
model = Model().to(DEVICE)
run = torch.compile(model) if COMPILED else model
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
def step(x, y):
    loss = F.cross_entropy(run(x).flatten(0, 1), y.flatten())
    loss.backward(); optimizer.step(); optimizer.zero_grad()
    return loss
x = torch.randint(0, VOCAB_SIZE, (32, MAX_SEQ_LEN), device=DEVICE)
step(x, x); torch.cuda.synchronize()
print("ready after", round(time.time() - begun, 1), "s as user", os.getuid(), "in", os.getcwd())
for x, y in make_dataloader(32, MAX_SEQ_LEN):
    step(x, y)
evaluate_bpb(run)
"""
WANT = """
import ctypes, time, torch
torch.zeros(1, device="cuda")
wanted = int(SHARE * torch.cuda.mem_get_info()[1])
"""
ASK_TORCH = (
    WANT
    + """
held = torch.ones(wanted, dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print("got", held.numel(), flush=True)
time.sleep(30)
"""
)
RAISE = """
import torch
torch.cuda.set_per_process_memory_fraction(1.0)
"""
ASK_DRIVER = (
    WANT
    + """
pointer = ctypes.c_uint64()
print("answer", ctypes.CDLL("libcuda.so.1").cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(wanted)), flush=True)
time.sleep(30)
"""
)
PROGRAMS = {
    "honest, eager": ("completed", HONEST.replace("COMPILED", "False")),
    "honest, compiled": ("completed", HONEST.replace("COMPILED", "True")),
    "honest, compiled again": ("completed", HONEST.replace("COMPILED", "True")),
    "asks torch for more than its share": ("crashed", ASK_TORCH),
    "raises its own share, then asks": ("crashed", RAISE + ASK_TORCH),
    "asks the driver for more than its share": ("crashed", ASK_DRIVER),
    "opens a socket": ("crashed", "import socket\nsocket.create_connection(('127.0.0.1', 22), 1)\n"),
    "reads /etc/passwd": ("crashed", "open('/etc/passwd').read()\n"),
    "forks until it fails": ("crashed", "import os\nwhile True:\n    os.fork()\n"),
    "honest after all of that": ("completed", HONEST.replace("COMPILED", "False")),
}


def make_data(folder: Path) -> None:
    rng = np.random.default_rng(0)
    rows = {"train": 4096, "val": 256, "check": 64, "holdout": 64}
    for split, count in rows.items():
        rng.integers(0, VOCABULARY, (count, LENGTH + 1)).astype(np.uint16).tofile(folder / f"{split}.bin")
    np.save(folder / "token_bytes.npy", np.ones(VOCABULARY, dtype=np.int32))
    meta = {"format": 1, "corpus": "random", "tokenizer": "byte", "vocab_size": VOCABULARY, "sequence_length": LENGTH}
    meta |= {"bos_token": VOCABULARY - 1, "rows": rows, "data_hash": "0" * 64, "prepare_hash": "1" * 64, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))


def show_promises(supervisor: Supervisor) -> bool:
    held = True
    for promise in supervisor.promises:
        print(f"{'held    ' if promise.held else 'NOT HELD'} {promise.name:14} {', '.join(promise.by)}")
        if not promise.held:
            print(f"         {promise.why_not}; {promise.remedy}")
        held = held and promise.held
    return held


def run(supervisor: Supervisor, name: str, expected: str, source: str) -> bool:
    begun = time.monotonic()
    *_, result = supervisor.run(Experiment("a-0", "a", source, 0))
    assert isinstance(result, Result)
    good = result.status.value == expected
    print(
        f"{'ok ' if good else 'BAD'} {name}: {result.status.value} {result.reason} val_bpb {result.val_bpb} "
        f"start {result.startup_seconds:.1f} s, tokens {result.tokens}, all {time.monotonic() - begun:.1f} s, "
        f"held {len(result.sandbox or ())}"
    )
    if not good or expected == "completed":
        print("    " + "\n    ".join(result.log_tail.splitlines()[-12:]))
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", default="required", choices=["required", "best_effort", "off"])
    parser.add_argument("--share", type=float, default=0.5)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args()
    print("user", os.getuid(), "kernel", os.uname().release, "python", sys.version.split()[0])
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        sandbox = SandboxSettings(level=options.level, slot_gpus=options.share, processes=512)
        settings = SupervisorSettings(
            data=Path(folder),
            prepare=ROOT / "seed_model" / "prepare.py",
            device="cuda",
            train_seconds=3.0,
            startup_seconds=180.0,
            sandbox=sandbox,
            scratch=options.scratch,
        )
        with Supervisor(settings) as supervisor:
            begun = time.monotonic()
            supervisor.warm_up()
            print(f"ready after {time.monotonic() - begun:.1f} s")
            good = show_promises(supervisor)
            for name, (expected, source) in PROGRAMS.items():
                good = run(supervisor, name, expected, source.replace("SHARE", str(options.share + 0.1))) and good
    raise SystemExit(0 if good else 1)


if __name__ == "__main__":
    main()
