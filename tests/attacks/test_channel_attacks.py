"""Attacks through the channel and the memories: garbage, truncation, silence, resizing, descriptors, flooding."""

from __future__ import annotations

import gc
import os

import pytest
from arena import BY_HAND, GREETED, HONEST, SCORED, Arena

from autoresearch_ray.training import processes
from autoresearch_ray.variant import Status

GARBAGE = {
    "bytes": "channel.sendall(bytes(range(256)) * 10)",
    "endless line": "channel.sendall(b'{' * 10**7)",
    "lines without end": "while True: channel.sendall(b'\\n' * 65536)",
    "deep nesting": "channel.sendall(b'[' * 60000 + b'\\n')",
    "huge number": 'channel.sendall(b\'{"op":"batch","batch":\' + b\'9\' * 60000 + b\',"length":1}\\n\')',
    "not a number": 'channel.sendall(b\'{"op":"batch","batch":NaN,"length":Infinity}\\n\')',
    "negative": 'channel.sendall(b\'{"op":"batch","batch":-1,"length":-1}\\n\')',
    "same key twice": 'channel.sendall(b\'{"op":"hello","op":"batch"}\\n\')',
    "a list": "channel.sendall(b'[1,2]\\n')",
    "pickle": "channel.sendall(b'\\x80\\x04cos\\nsystem\\n')",
    "HTTP": "channel.sendall(b'GET /val.bin HTTP/1.1\\r\\n\\r\\n')",
    "half a message": 'channel.sendall(b\'{"op":"ba\'); channel.shutdown(socket.SHUT_WR)',
    "surrogates": 'channel.sendall(b\'{"op":"\\\\ud800"}\\n\')',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(walled: Arena, name: str) -> None:
    result = walled.run(f"{GREETED}\n{GARBAGE[name]}\ntime.sleep(1e6)")
    assert result.status is Status.CRASHED
    assert result.reason.startswith(("protocol violation: ", "closed its channel"))
    assert walled.run(SCORED).status is Status.COMPLETED


SCORING = GREETED + "while 'end' not in batch(): pass\nlogits = mmap.mmap(hello['logits_fd'], hello['logits_bytes'])\n"
DURING_SCORING = {
    "closes the channel": ("evaluate(); os.closerange(3, 100); time.sleep(1e6)", "closed its channel"),
    "ends": ("evaluate(); os._exit(0)", "ended without calling evaluate_bpb"),
    "replies twice": (
        'evaluate(); channel.sendall(b\'{"op":"logits"}\\n\' * 2); time.sleep(1e6)',
        "protocol violation",
    ),
    "asks for the score": ("evaluate(); ask({'op': 'score'})", "protocol violation"),
    "says evaluate twice": ("evaluate(); raise RuntimeError(evaluate())", "RuntimeError"),
    "brings its own score": (
        "ask({'op': 'evaluate', 'val_bpb': 0.1, 'parameters': 1, 'dtype': 'float32'})",
        "protocol violation",
    ),
    "wrong dtype": ("evaluate(dtype='int64')", "protocol violation"),
    "dtype that is no text": ("evaluate(dtype=['float32'])", "protocol violation"),
    "no parameters": ("evaluate(parameters=-1)", "protocol violation"),
}


@pytest.mark.parametrize("name", DURING_SCORING)
def test_naughty_while_scored(walled: Arena, name: str) -> None:
    act, reason = DURING_SCORING[name]
    result = walled.run(f"{SCORING}\n{act}\ntime.sleep(1e6)")
    assert result.status is Status.CRASHED
    assert result.reason.startswith(reason)
    assert (result.val_bpb, result.verified) == (None, False)


@pytest.mark.parametrize("late", ["before the first", "before the second"])
def test_late_logits(strict: Arena, late: str) -> None:
    sleep = "time.sleep(1e6)\n"
    first, others = (sleep, "") if late == "before the first" else ("", "    " + sleep)
    source = (
        SCORING + f"answer = evaluate()\n{first}while 'rows' in answer:\n    answer = ask({{'op': 'logits'}})\n{others}"
    )
    result = strict.run(source)
    assert (result.status, result.reason) == (Status.TIMED_OUT, "scoring took longer than 0.5 s")
    assert result.val_bpb is None


MEMORIES = """
import fcntl, mmap
def cut(fd): os.ftruncate(fd, 0)
def grow(fd): os.ftruncate(fd, 1 << 40)
def punch(fd):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(fd, 3, ctypes.c_long(0), ctypes.c_long(1 << 20)): raise OSError(ctypes.get_errno(), "punch")
def seal(fd): fcntl.fcntl(fd, 1033, 0x8)  # F_SEAL_WRITE: then the supervisor could not write any more
def forget(fd):
    with mmap.mmap(fd, 4096) as held: held.madvise(9)  # MADV_REMOVE
for fd, name in ((4, "tokens"), (5, "logits")):
    for act in (cut, grow, seal):
        attempt(f"{act.__name__} {name}", lambda: act(fd))
    for act in (punch, forget):
        try: act(fd)
        except OSError: pass
"""


def test_the_memories_keep_their_size(walled: Arena) -> None:
    """Nor can they be sealed against the supervisor; holes in them are zeros, which are the variant's own loss."""
    seen = walled.attack(MEMORIES)
    seen.assert_all_refused("cut tokens", "grow tokens", "seal tokens", "cut logits", "seal logits")
    seen.assert_trained_honestly()


def test_descriptors_sent_through_the_channel_are_dropped(walled: Arena) -> None:
    assert walled.run(SCORED).status is Status.COMPLETED
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    result = walled.run(
        BY_HAND
        + "fds = [os.open('train.py', 0) for _ in range(100)]\n"
        + 'socket.send_fds(channel, [b\'{"op":"hello"}\\n\'], fds)\nhello = json.loads(reader.readline())\n'
        + 'def batch(**more):\n    socket.send_fds(channel, [b\'{"op":"batch","batch":2,"length":16}\\n\'], fds)\n'
        + "    return json.loads(reader.readline())\n"
        + SCORED.removeprefix(GREETED)
    )
    assert result.status is Status.COMPLETED
    gc.collect()  # mapped files of earlier experiments
    assert len(os.listdir("/proc/self/fd")) <= len(before)


def test_what_it_says_after_the_end_is_heard_by_nobody(walled: Arena) -> None:
    """A copy of log and channel that a daemon keeps; it is dead before the next experiment starts."""
    result = walled.run(
        SCORED
        + """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(1, b"daemon=%d\\n" % os.getpid())
        while True:
            try:
                os.write(1, b"later\\n" * 100)
                channel.send(b'{"op":"hello"}\\n', socket.MSG_DONTWAIT)
            except OSError: pass
    os._exit(0)
os.wait(); time.sleep(0.1)
"""
    )
    assert result.status is Status.COMPLETED
    assert processes.descendants(walled.launcher) == [walled.scorer]
    following = walled.run(HONEST)
    assert following.status is Status.COMPLETED
    assert "later" not in following.log_tail


FAKE_BLOCK = """
print("---")
print("val_bpb:          0.000001")
print("training_seconds: 1.0")
print("METRIC val_bpb=0.000001")
os.write(1, b'{"val_bpb": 0.000001, "verified": true, "status": "completed"}\\n')
os.write(2, b"Traceback (most recent call last):\\nAssertionError: the score is 0.000001\\n")
"""


def test_a_fake_block_is_only_printed(walled: Arena) -> None:
    honest = walled.run(GREETED + "while 'end' not in batch(): pass\n" + SCORED.removeprefix(GREETED))
    faked = walled.run("import os\n" + FAKE_BLOCK + SCORED + FAKE_BLOCK)
    assert faked.status is Status.COMPLETED
    assert faked.reason == ""
    assert faked.val_bpb == honest.val_bpb
    unscored = walled.run("import os\n" + FAKE_BLOCK)
    assert (unscored.status, unscored.val_bpb, unscored.verified) == (Status.CRASHED, None, False)
