"""Patches whatever Python lets it patch: time, prepare, torch, json, the interpreter's hooks. All of it is its own."""

from __future__ import annotations

import pytest
from arena import HONEST, Arena

from autoresearch_ray.variant import Status

FIXED = """
import torch
from prepare import MAX_SEQ_LEN, VOCAB_SIZE, evaluate_bpb, make_dataloader
table = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(7))
class Model(torch.nn.Module):
    def forward(self, x): return table[x]
for x, y in make_dataloader(4, MAX_SEQ_LEN): pass
print("said", evaluate_bpb(Model()))
"""
"""A model that learns nothing: its score is known, whatever is patched around it."""

PATCHES = {
    "time": "import time\ntime.time = time.monotonic = time.process_time = lambda: 0.0",
    "evaluate_bpb": "import prepare\nprepare.evaluate_bpb = lambda model: 0.1",
    "evaluate of the channel": "import prepare\nreal = prepare.Channel.evaluate\n"
    "prepare.Channel.evaluate = lambda self, forward, parameters: real(self, forward, 1) * 0.01",
    "json": "import json\nreal = json.loads\n"
    "json.loads = lambda text: {k: 0.1 if k == 'val_bpb' else v for k, v in real(text).items()}",
    "cross_entropy": "import torch\ntorch.nn.functional.cross_entropy = lambda *a, **k: torch.zeros(())",
    "softmax and isfinite": "import torch\ntorch.isfinite = lambda x: torch.ones_like(x, dtype=torch.bool)\n"
    "torch.Tensor.__lt__ = lambda self, other: torch.zeros_like(self, dtype=torch.bool)",
    "math": "import math\nmath.log = lambda *a: 1e9\nmath.isfinite = lambda x: True",
    "builtins": "import builtins\nbuiltins.print = lambda *a, **k: None\nbuiltins.float = lambda x: 0.1",
    "sys.settrace": "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)",
    "exit": "import atexit, os\natexit.register(lambda: os._exit(9))",
    "excepthook": "import sys\nsys.excepthook = lambda *a: None\nsys.unraisablehook = lambda *a: None",
    "supervisor's modules": "import sys\nfor name in list(sys.modules):\n"
    "    assert not name.startswith('autoresearch_ray'), name\nimport prepare",
    "import system": "import sys\n"
    "sys.meta_path.insert(0, type('Finder', (), {'find_spec': staticmethod(lambda *a, **k: None)}))",
    "objects of the launcher": "import gc\nfor thing in gc.get_objects():\n"
    "    if type(thing).__module__.startswith('autoresearch_ray'): thing.__dict__.clear()",
    "the launcher's frames": "import sys\nframe = sys._getframe()\nwhile frame:\n    frame.f_globals.pop('os', None)\n"
    "    frame.f_globals.pop('_finish', None)\n    frame = frame.f_back\nimport os",
}


@pytest.fixture(scope="module")
def true_score(walled: Arena) -> float:
    result = walled.run(FIXED)
    assert result.val_bpb is not None
    return result.val_bpb


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_changes_only_what_the_variant_sees(walled: Arena, true_score: float, name: str) -> None:
    result = walled.run(PATCHES[name] + "\n" + FIXED)
    if result.val_bpb is None:  # it broke itself
        assert result.status is Status.CRASHED
        assert not result.verified
    else:
        assert result.val_bpb == true_score
    assert 0 < result.tokens == result.steps * 64 or result.status is Status.CRASHED
    assert walled.run(FIXED).val_bpb == true_score


MUST_BE_SCORED = ("time", "evaluate of the channel", "json", "cross_entropy", "math", "sys.settrace", "exit")


@pytest.mark.parametrize("name", MUST_BE_SCORED)
def test_the_patch_takes_effect_where_it_is_allowed_to(walled: Arena, true_score: float, name: str) -> None:
    assert walled.run(PATCHES[name] + "\n" + FIXED).val_bpb == true_score


POISON = """
import builtins, os, sys, threading
import torch
torch.manual_seed = lambda seed: None
torch.nn.Linear.forward = lambda self, x: x * 0
torch.set_num_threads(7)
builtins.print = None
os.environ["PYTHONPATH"] = "/nowhere"
sys.path.insert(0, os.getcwd())
sys.setrecursionlimit(50)
threading.Thread(target=lambda: None).start()
os.umask(0)
"""


def test_a_successor_is_not_poisoned(walled: Arena, true_score: float) -> None:
    """What a variant does to its interpreter dies with it."""
    before = walled.run(HONEST.replace("for x, y in loader:", "for x, y in [next(loader)]:")).val_bpb
    walled.run(POISON)
    after = walled.run(HONEST.replace("for x, y in loader:", "for x, y in [next(loader)]:")).val_bpb
    assert after == before
    assert walled.run(FIXED).val_bpb == true_score


LEFT_BEHIND = {
    "a thread": "import threading, time\nthreading.Thread(target=lambda: time.sleep(1e6)).start()",
    "a daemon thread": "import threading\n"
    "threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start()",
    "a child that holds the log": "import os, time\nif os.fork() == 0: time.sleep(1e6)",
    "an exit handler that waits": "import atexit, time\natexit.register(time.sleep, 1e6)",
    "a stopped process": "import os, signal\nif os.fork() == 0: os.kill(os.getpid(), signal.SIGSTOP)",
    "an alarm": "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)",
}


@pytest.mark.parametrize("name", LEFT_BEHIND)
def test_what_is_left_behind_is_ended(strict: Arena, name: str) -> None:
    patient = LEFT_BEHIND[name] + "\n" + FIXED
    result = strict.run(patient)
    assert result.wall_seconds < 20
    assert strict.run("raise ValueError('next')").reason == "ValueError: next"
