"""Texts of train.py, honest and naughty. The naughty ones speak the protocol by hand."""

HONEST = """
import torch
from prepare import MAX_SEQ_LEN, SEED, VOCAB_SIZE, evaluate_bpb, make_dataloader

torch.manual_seed(SEED)
model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, VOCAB_SIZE))
optimizer = torch.optim.AdamW(model.parameters())
loader = make_dataloader(4, MAX_SEQ_LEN)
for x, y in loader:
    loss = torch.nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    loader.report(loss.item())
val_bpb = evaluate_bpb(model)
print("---")
print(f"val_bpb: {val_bpb}")
"""

FIXED_TABLE = """
import torch
from prepare import VOCAB_SIZE, evaluate_bpb, make_dataloader

table = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(7)) * 2

class Model(torch.nn.Module):
    def forward(self, x):
        return table[x]

for x, y in make_dataloader(2, 5):
    pass
print("---")
print("val_bpb:          0.1")
evaluate_bpb(Model())
print("---")
print("val_bpb:          0.1")
"""

BY_HAND = """
import json, mmap, os, signal, socket, subprocess, sys, time
channel = socket.socket(fileno=os.dup(int(os.environ["AUTORESEARCH_CHANNEL"])))
reader = channel.makefile("rb")
def ask(message):
    channel.sendall(json.dumps(message).encode() + b"\\n")
    return json.loads(reader.readline())
def batch(**more):
    return ask({"op": "batch", "batch": 2, "length": 16, "loss": None, **more})
def evaluate(**more):
    return ask({"op": "evaluate", "parameters": 1, "peak_memory_bytes": None, "dtype": "float32", **more})
"""

GREETED = BY_HAND + 'hello = ask({"op": "hello"})\n'
SCORED = (
    GREETED
    + """
while "end" not in batch():
    pass
logits = mmap.mmap(hello["logits_fd"], hello["logits_bytes"])
answer = evaluate()
while "rows" in answer:
    answer = ask({"op": "logits"})
"""
)

SEVERAL_LOADERS = """
import torch
from prepare import *

def draw(loader, B, T):
    x, y = next(loader)
    assert x.shape == y.shape == (B, T), x.shape
    assert torch.equal(x[:, 1:], y[:, :-1]), "inputs and targets belong to different rows"
    assert MAX_SEQ_LEN == 16 and DEVICE == "cpu" and TIME_BUDGET > 0
    return x.clone()

first, second = make_dataloader(4, 16), make_dataloader(2, 8)
seen = [draw(first, 4, 16), draw(first, 4, 16)]
draw(second, 2, 8), draw(second, 2, 8), draw(second, 2, 8)
seen += [draw(first, 4, 16), draw(first, 4, 16)]
assert len({tuple(rows.flatten().tolist()) for rows in seen}) == 4, "a batch came twice"
draw(second, 2, 8)
model = torch.nn.Sequential(torch.nn.Embedding(VOCAB_SIZE, 16), torch.nn.Linear(16, VOCAB_SIZE))
evaluate_bpb(model)  # with batches of both loaders asked for ahead and never taken
"""
