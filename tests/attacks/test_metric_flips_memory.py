from __future__ import annotations

from arena import Arena
from metric import scored_with

from autoresearch_ray.variant import Result

FLIPPING = """
import mmap, os, prepare, threading
from prepare import _connect

channel = _connect()
memory = torch.frombuffer(mmap.mmap(channel.hello["logits_fd"], channel.hello["logits_bytes"]), dtype=torch.float32)
if os.fork() == 0:  # a process of its own, so that it writes while the scorer reads
    while True:
        memory[: 32 * 64 * 64].fill_(50.0)
        memory[: 32 * 64 * 64].fill_(-50.0)
"""


def test_memory_that_is_flipped_while_it_is_read_gains_nothing(measured: Arena, honest: Result) -> None:
    """Read twice, a logit could be small in the sum and large at the target: the loss would be negative."""
    result = measured.run(scored_with("Honest()", FLIPPING))
    assert honest.val_bpb is not None
    assert result.val_bpb is None or result.val_bpb > honest.val_bpb
