"""End to end: real launchers, scorers and variants, honest and naughty. No assertion depends on how fast they are."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from programs import BY_HAND, FIXED_TABLE, GREETED, HONEST, SCORED, SEVERAL_LOADERS
from small_data import SEQUENCE_LENGTH, VOCAB_SIZE, make_data

from autoresearch_ray.errors import DataError, SupervisionError
from autoresearch_ray.training import launching, processes
from autoresearch_ray.training.limits import SizeLimits
from autoresearch_ray.training.supervisor import Phase, Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment, Result, Status

PREPARE = Path(__file__).parents[2] / "seed_model" / "prepare.py"
LONG = 120.0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorSettings]:
    scratch = tmp_path_factory.mktemp("scratch")
    yield SupervisorSettings(
        data=make_data(tmp_path_factory.mktemp("data")),
        prepare=PREPARE,
        train_seconds=0.2,
        startup_seconds=LONG,
        scoring_seconds=LONG,
        grace_seconds=LONG,
        longest_training_seconds=LONG,
        exit_seconds=LONG,
        scratch=scratch,
    )
    assert list(scratch.iterdir()) == []  # every supervisor of this file is closed by now


@pytest.fixture(scope="module")
def supervisor(settings: SupervisorSettings) -> Iterator[Supervisor]:
    """Patient: whatever is seen with it does not depend on how busy this machine is."""
    with Supervisor(settings) as made:
        yield made


@pytest.fixture(scope="module")
def strict(settings: SupervisorSettings) -> Iterator[Supervisor]:
    """Impatient where a naughty program waits for ever anyway."""
    with Supervisor(
        replace(
            settings,
            startup_seconds=4.0,
            scoring_seconds=0.5,
            grace_seconds=0.2,
            longest_training_seconds=5.0,
            exit_seconds=0.2,
        )
    ) as made:
        yield made


def run(supervisor: Supervisor, source: str, seed: int = 1) -> Result:
    *phases, result = supervisor.run(Experiment("x-0", "x", source, seed))
    assert all(isinstance(phase, Phase) for phase in phases)
    assert isinstance(result, Result)
    return result


def printed(result: Result, name: str) -> str:
    """Return what the program printed after `name=`."""
    return next(line.partition("=")[2] for line in result.log_tail.splitlines() if line.startswith(f"{name}="))


def test_loaders_may_take_turns_and_be_left_before_their_end(settings: SupervisorSettings) -> None:
    with Supervisor(replace(settings, train_seconds=LONG)) as patient:
        result = run(patient, SEVERAL_LOADERS)
    assert (result.status, result.reason) == (Status.COMPLETED, "")


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + LONG
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is alive"
        time.sleep(0.01)


def test_an_honest_variant_is_verified(supervisor: Supervisor) -> None:
    *phases, result = supervisor.run(Experiment("x-0", "x", HONEST, 3))
    assert isinstance(result, Result)
    assert (result.status, result.reason, result.verified) == (Status.COMPLETED, "", True)
    assert result.val_bpb is not None
    assert f"val_bpb: {result.val_bpb}" in result.log_tail
    assert result.steps > 1
    assert result.tokens == result.steps * 4 * SEQUENCE_LENGTH
    assert result.parameters == VOCAB_SIZE * 16 + 16 * VOCAB_SIZE + VOCAB_SIZE
    assert result.train_seconds >= 0.2
    assert result.wall_seconds >= result.startup_seconds + result.scoring_seconds > 0
    assert result.curve[0][0] == pytest.approx(0.0, abs=0.2)
    assert result.curve[-1][1] == pytest.approx(math.log(VOCAB_SIZE), rel=0.2)
    assert result.peak_memory_bytes is not None
    assert result.peak_memory_bytes > 10_000_000
    assert result.hardware.startswith("cpu ")
    assert result.node
    assert result.gpu is None
    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.started_at < result.ended_at
    names = [phase.name for phase in phases if isinstance(phase, Phase)]
    assert names == sorted(names, key=["starting", "training", "scoring"].index)


def test_a_fake_block_does_not_hide_the_true_score(supervisor: Supervisor, settings: SupervisorSettings) -> None:
    result = run(supervisor, FIXED_TABLE)
    assert result.log_tail.count("val_bpb:          0.1") == 2
    assert result.verified
    table = torch.randn(VOCAB_SIZE, VOCAB_SIZE, generator=torch.Generator().manual_seed(7)).double().numpy() * 2
    rows = np.fromfile(settings.data / "val.bin", dtype=np.uint16).reshape(-1, SEQUENCE_LENGTH + 1).astype(int)
    x, y, sizes = rows[:, :-1], rows[:, 1:], np.load(settings.data / "token_bytes.npy")
    nats = (np.log(np.exp(table[x]).sum(-1)) - table[x, y])[sizes[y] > 0].sum()
    assert result.val_bpb == pytest.approx(nats / math.log(2) / sizes[y].sum(), abs=1e-5)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def f():\n    raise ValueError('too\\nbad')\nf()", "ValueError: too"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax"),
        ("import nothing", "ModuleNotFoundError: No module named 'nothing'"),
        ("x = '\ud800'", "SyntaxError: "),
        ("pass", "ended without calling evaluate_bpb"),
        ("raise SystemExit('no more')", "exited with code 1"),
        ("import sys; sys.exit(7)", "exited with code 7"),
        ("import os; os._exit(3)", "exited with code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", "killed by SIGINT"),
        (GREETED + "batch(); sys.exit(0)", "ended without calling evaluate_bpb"),
        (GREETED + "batch(); evaluate(); sys.exit(0)", "ended without calling evaluate_bpb"),
    ],
)
def test_a_variant_that_ends_early_crashed(supervisor: Supervisor, source: str, reason: str) -> None:
    result = run(supervisor, source)
    assert result.status is Status.CRASHED
    assert result.reason.startswith(reason)
    assert (result.val_bpb, result.verified) == (None, False)


def test_a_traceback_shows_the_variants_lines_and_none_of_ours(supervisor: Supervisor) -> None:
    log = run(supervisor, "def f():\n    raise ValueError('bad')\nf()").log_tail
    assert "    raise ValueError('bad')" in log
    assert 'train.py", line 3, in <module>' in log
    assert "launcher" not in log
    assert "launcher" not in run(supervisor, "x = (").log_tail


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import time; time.sleep(1e6)", "drew no batch within 4 s"),
        (GREETED + "batch()\nwhile True: pass", "did not call evaluate_bpb within 0.2 s"),
        (GREETED + "while True: batch()", "did not call evaluate_bpb within 0.2 s"),
        (GREETED + "batch(); time.sleep(1e6)", "training took longer than 5 s of wall-clock time"),
        (GREETED + "batch(); evaluate(); time.sleep(1e6)", "scoring took longer than 0.5 s"),
        (GREETED + "batch(); evaluate(parameters=2)\nwhile True: pass", "scoring took longer than 0.5 s"),
        (
            GREETED + "signal.signal(signal.SIGTERM, signal.SIG_IGN); os.close(1); os.close(2); time.sleep(1e6)",
            "drew no batch within 4 s",
        ),
    ],
)
def test_a_variant_that_is_late_timed_out(strict: Supervisor, source: str, reason: str) -> None:
    result = run(strict, source)
    assert result.status is Status.TIMED_OUT
    assert result.reason.startswith(reason)


def test_a_scored_variant_that_does_not_end_is_ended(strict: Supervisor) -> None:
    result = run(strict, SCORED + "print(answer, flush=True)\ntime.sleep(1e6)")
    assert result.status is Status.COMPLETED
    assert f"{{'val_bpb': {result.val_bpb}}}" in result.log_tail


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next_variants(strict: Supervisor) -> None:
    expected = run(strict, SCORED).val_bpb
    assert strict._crew is not None
    os.kill(strict._crew.scorer_pid, signal.SIGSTOP)
    late = run(strict, GREETED + "batch(); evaluate(dtype='bfloat16')")
    os.kill(strict._crew.scorer_pid, signal.SIGCONT)
    assert late.reason.startswith("scoring took longer")
    assert run(strict, SCORED).val_bpb == expected


def test_a_crash_after_the_score_does_not_matter(supervisor: Supervisor) -> None:
    result = run(supervisor, SCORED + "raise ValueError('plotting failed')")
    assert result.status is Status.COMPLETED
    assert "plotting failed" in result.log_tail
    assert result.val_bpb is not None


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (BY_HAND + "ask({'op': 'batch', 'batch': 1, 'length': 1})", "a message came before hello"),
        (GREETED + "ask({'op': 'hello'})", "said hello twice"),
        (GREETED + "ask({'op': 'logits'})", "logits came that were not asked for"),
        (GREETED + "ask({'op': 'give me the targets'})", "no known 'op'"),
        (GREETED + "batch(batch=0)", "'batch' must be an integer"),
        (GREETED + "evaluate(dtype='float8')", "'dtype' must be one of"),
        (GREETED + "ask({'op': 'logits'})", "not asked for"),
        (BY_HAND + "channel.sendall(b'garbage\\n'); time.sleep(1e6)", "not JSON"),
        (BY_HAND + "channel.sendall(b'\\xff\\xfe\\x00\\n'); time.sleep(1e6)", "not UTF-8"),
        (BY_HAND + "channel.sendall(b'[' * 60000 + b'\\n'); time.sleep(1e6)", "nested too deeply|not JSON"),
        (BY_HAND + "channel.sendall(b'x' * 10**7); time.sleep(1e6)", "longer than 65536 bytes"),
        (
            GREETED
            + "batch(); line = json.dumps({'op': 'evaluate', 'parameters': 1, 'dtype': 'float32'})\n"
            + "channel.sendall(2 * (line.encode() + b'\\n')); time.sleep(1e6)",
            "before the last one was answered|scores once",
        ),
        (
            GREETED + 'message = b\'{"op":"batch","batch":1,"length":1}\\n\' * 1000\n'
            "while True: channel.sendall(message)",
            "does not read the answers",
        ),
    ],
)
def test_a_message_out_of_place_ends_the_experiment(supervisor: Supervisor, source: str, words: str) -> None:
    result = run(supervisor, source)
    assert result.status is Status.CRASHED
    assert result.reason.startswith("protocol violation: ")
    assert re.search(words, result.reason)


def test_a_channel_that_is_closed_ends_the_experiment(supervisor: Supervisor) -> None:
    result = run(supervisor, GREETED + "channel.close(); reader.close(); os.closerange(3, 6); time.sleep(1e6)")
    assert (result.status, result.reason) == (Status.CRASHED, "closed its channel to the supervisor")


@pytest.mark.parametrize("wanted", ["batch=10**12", "batch=10**6, length=16", "length=17"])
def test_a_batch_that_cannot_be_served_is_an_error(supervisor: Supervisor, wanted: str) -> None:
    result = run(supervisor, GREETED + f"raise RuntimeError(batch({wanted})['error'])")
    assert result.status is Status.CRASHED
    assert result.reason.startswith("RuntimeError: ")
    assert (result.steps, result.tokens) == (0, 0)


def test_logits_that_are_no_numbers_crashed(supervisor: Supervisor) -> None:
    source = SCORED.replace("answer = evaluate()", "answer = evaluate()\nlogits[:] = b'\\xff' * len(logits)")
    result = run(supervisor, source)
    assert (result.status, result.reason, result.val_bpb) == (Status.CRASHED, "non-finite logits", None)


def test_a_training_loss_that_is_no_number_crashed(supervisor: Supervisor) -> None:
    result = run(supervisor, GREETED + "batch(loss=float('nan')); time.sleep(1e6)")
    assert (result.status, result.reason) == (Status.CRASHED, "the training loss is nan")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_zeros_score_as_zeros_in_every_type(supervisor: Supervisor, settings: SupervisorSettings, dtype: str) -> None:
    result = run(supervisor, SCORED.replace("evaluate()", f"evaluate(dtype='{dtype}')"))
    rows = np.fromfile(settings.data / "val.bin", dtype=np.uint16).reshape(-1, SEQUENCE_LENGTH + 1)[:, 1:]
    counted = np.load(settings.data / "token_bytes.npy")[rows]
    expected = (counted > 0).sum() * math.log2(VOCAB_SIZE) / counted.sum()
    assert result.val_bpb == pytest.approx(expected, abs=1e-5)


def test_a_variant_that_refuses_to_be_resized(supervisor: Supervisor) -> None:
    """Cutting the shared memory must not kill who reads it; where it is sealed it cannot even be cut."""
    cut = "for fd in (hello['logits_fd'], hello['data_fd']):\n    try: os.ftruncate(fd, 0)\n    except OSError: pass\n"
    result = run(supervisor, GREETED + cut + SCORED.removeprefix(GREETED))
    assert result.status is Status.COMPLETED or result.reason == "the shared memory was cut"


def test_a_flood_is_kept_to_its_end(supervisor: Supervisor) -> None:
    result = run(supervisor, "for _ in range(100): print('x' * 10**6)\nprint('the end')\nraise ValueError")
    assert result.reason == "ValueError"
    assert "the end" in result.log_tail
    assert len(result.log_tail.encode()) <= 8192


def test_an_endless_flood_does_not_stop_the_clock(strict: Supervisor) -> None:
    result = run(strict, "import os\nwhile True: os.write(2, b'x' * 65536)")
    assert result.reason == "drew no batch within 4 s"


def test_the_log_cannot_move_a_terminal(supervisor: Supervisor) -> None:
    result = run(supervisor, r"print('\x1b[31mred\x1b]0;title\x07 \x00 10%\r20%'); raise ValueError('\x1b[2J')")
    assert "\x1b" not in result.log_tail + result.reason
    assert result.log_tail.startswith("20%")


DAEMON = """
import os, sys, time, signal
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        os.write(1, b"daemon=%d\\n" % os.getpid())
        while True: time.sleep(1)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("ending", ["time.sleep(0.2)", "raise ValueError", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_daemon_that_left_the_session_is_dead(supervisor: Supervisor, ending: str) -> None:
    told = "reader, writer = os.pipe()\n" + DAEMON.replace("os.write(1,", "os.write(writer, b'.'), os.write(1,")
    result = run(supervisor, "import os\n" + told + "os.read(reader, 1)\n" + ending)
    assert result.status is Status.CRASHED
    assert processes.usage(int(printed(result, "daemon"))) is None


def test_children_that_go_on_are_dead_when_a_scored_experiment_ends(supervisor: Supervisor) -> None:
    source = SCORED + "\nprint('child=%d' % subprocess.Popen(['sleep', '1000'], start_new_session=True).pid)"
    result = run(supervisor, source)
    assert result.status is Status.COMPLETED
    assert processes.usage(int(printed(result, "child"))) is None


@pytest.mark.parametrize("wait_for", ["starting", "training"])
def test_closing_the_generator_leaves_nothing(
    supervisor: Supervisor, settings: SupervisorSettings, wait_for: str
) -> None:
    source = DAEMON + GREETED + "while True: batch()"
    running = supervisor.run(Experiment("x-0", "x", source, 1))
    for phase in running:
        assert isinstance(phase, Phase)
        if phase.name == wait_for:
            break
    launcher = supervisor._crew
    assert launcher is not None
    running.close()  # type: ignore[attr-defined]
    assert processes.descendants(launcher.pid) == [launcher.scorer_pid]
    assert [path.name for path in launcher.folder.iterdir()] == ["library"]
    assert run(supervisor, "raise ValueError").reason == "ValueError"


def test_an_interrupt_leaves_nothing(supervisor: Supervisor) -> None:
    running = supervisor.run(Experiment("x-0", "x", GREETED + "while True: batch()", 1))
    next(running)
    with pytest.raises(KeyboardInterrupt):
        running.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    launcher = supervisor._crew
    assert launcher is not None
    assert processes.descendants(launcher.pid) == [launcher.scorer_pid]


def test_experiments_leave_no_descriptor_open(supervisor: Supervisor) -> None:
    run(supervisor, "pass")
    launcher = supervisor._crew
    assert launcher is not None
    pids = (os.getpid(), launcher.pid, launcher.scorer_pid)

    def count() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    run(supervisor, SCORED)
    before = count()
    run(supervisor, SCORED)
    run(supervisor, "raise ValueError")
    assert count() == before


KILLED_PARENT = """
import os, signal, sys
from pathlib import Path
from autoresearch_ray.training.supervisor import Supervisor, SupervisorSettings
from autoresearch_ray.variant import Experiment
settings = SupervisorSettings(Path(sys.argv[1]), Path(sys.argv[2]), train_seconds=1000, scratch=Path(sys.argv[3]))
supervisor = Supervisor(settings)
for phase in supervisor.run(Experiment("x-0", "x", sys.argv[4], 1)):
    if phase.name == "training":
        from autoresearch_ray.training import processes
        crew = supervisor._crew
        print(crew.pid, *processes.descendants(crew.pid), flush=True)
        for child in processes.children(os.getpid()):  # Ray does that to a worker's children at its end
            os.kill(child, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_supervisor_that_is_killed_leaves_nothing(settings: SupervisorSettings, tmp_path: Path) -> None:
    source = DAEMON + GREETED + "batch(); time.sleep(1e6)"
    command = [sys.executable, "-c", KILLED_PARENT, settings.data, PREPARE, tmp_path, source]
    done = subprocess.run(command, stdout=subprocess.PIPE, cwd=PREPARE.parents[1], check=False, timeout=LONG)
    assert done.returncode == -signal.SIGKILL
    pids = list(map(int, done.stdout.split()))
    assert len(pids) == 4
    for pid in pids:
        wait_until_dead(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_trusted_process_that_is_killed_is_lost_and_replaced(settings: SupervisorSettings) -> None:
    with Supervisor(settings) as made:
        # Long enough to be seen: of a daemon that nobody has seen yet, nobody knows when the launcher is gone.
        result = run(made, DAEMON + "time.sleep(3)\nos.kill(os.getppid(), 9)\ntime.sleep(1e6)")
        assert (result.status, result.reason) == (Status.LOST, "the launcher died")
        wait_until_dead(int(printed(result, "daemon")))
        running = made.run(Experiment("x-0", "x", GREETED + "batch(); time.sleep(1e6)", 1))
        next(running)
        assert made._crew is not None
        os.kill(made._crew.scorer_pid, signal.SIGKILL)
        *_, result = running
        assert isinstance(result, Result)
        assert (result.status, result.reason) == (Status.LOST, "the scorer died")
        assert run(made, HONEST).status is Status.COMPLETED


TOKENS = (
    GREETED
    + """
data = mmap.mmap(hello["data_fd"], hello["data_bytes"])
first = [batch()["offset"] for _ in range(2)]
print("tokens=" + data[first[0] : first[0] + 68].hex() + data[first[1] : first[1] + 68].hex())
"""
)


def test_the_seed_decides_the_data(supervisor: Supervisor) -> None:
    first, again, other = (printed(run(supervisor, TOKENS, seed), "tokens") for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert len(first) == 2 * 2 * 2 * 17 * 2


SURROUNDINGS = """
import json, os, sys
print("environment=" + json.dumps(dict(os.environ)))
links = [f"/proc/self/fd/{fd}" for fd in range(64)]
print("descriptors=" + json.dumps({i: os.readlink(link) for i, link in enumerate(links) if os.path.lexists(link)}))
ours = ("autoresearch_ray", "ray", "pyarrow", "pydantic")
print("modules=" + " ".join(name for name in sys.modules if name.partition(".")[0] in ours))
print("preloaded=" + str("torch._dynamo" in sys.modules))
print("main=" + __name__ + " " + __file__ + " " + sys.argv[0])
print("cwd=" + os.getcwd())
print("path=" + sys.path[0])
print("writable=" + str(os.access(sys.path[0], os.W_OK)), os.listdir(sys.path[0]))
print("session=" + str(os.getsid(0) == os.getpid()))
print("launcher=" + open(f"/proc/{os.getppid()}/environ").read().replace("\\0", " "))
print("threads=%d" % len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
def test_a_variant_sees_only_what_is_listed(settings: SupervisorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("RAY_ADDRESS", "secret")
    monkeypatch.setenv("PYTHONPATH", "/secret")
    with Supervisor(settings) as made:
        result = run(made, SURROUNDINGS)
    environment = json.loads(printed(result, "environment"))
    ours = {
        *("AUTORESEARCH_CHANNEL", "HOME", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "USER"),
    }
    assert set(environment) <= ours | set(launching.ALLOWED_VARIABLES)
    assert "secret" not in printed(result, "launcher") + str(environment)
    descriptors = {int(fd): target for fd, target in json.loads(printed(result, "descriptors")).items()}
    assert set(descriptors) == {0, 1, 2, 3, 4, 5}
    assert descriptors[0] == "/dev/null"
    assert "socket" in descriptors[3]
    assert printed(result, "modules") == ""
    assert printed(result, "preloaded") == "True"
    scratch = printed(result, "cwd")
    assert environment["HOME"] == environment["TMPDIR"] == scratch
    assert printed(result, "main") == f"__main__ {scratch}/train.py {scratch}/train.py"
    assert printed(result, "path").endswith("/library")
    assert printed(result, "session") == "True"
    assert printed(result, "threads") == "1"
    assert not Path(scratch).exists()


def test_two_supervisors_run_at_once(supervisor: Supervisor, strict: Supervisor) -> None:
    runs = [s.run(Experiment("x-0", "x", source, 1)) for s, source in ((supervisor, HONEST), (strict, SCORED))]
    results: list[Result] = []
    while runs:
        for each in list(runs):
            item = next(each)
            if isinstance(item, Result):
                results.append(item)
                runs.remove(each)
    assert [result.status for result in results] == [Status.COMPLETED] * 2


def test_one_supervisor_runs_one_experiment_at_a_time(supervisor: Supervisor) -> None:
    first = supervisor.run(Experiment("x-0", "x", "import time; time.sleep(1e6)", 1))
    next(first)
    with pytest.raises(SupervisionError, match="one at a time"):
        next(supervisor.run(Experiment("x-1", "x", HONEST, 1)))
    first.close()  # type: ignore[attr-defined]


def test_a_scratch_folder_is_deleted_whatever_is_in_it(supervisor: Supervisor) -> None:
    source = """
import os
os.symlink("/etc", "link"); os.mkdir("locked"); open("locked/file", "w").close(); os.chmod("locked", 0)
for _ in range(1500): os.mkdir("deep"); os.chdir("deep")
"""
    assert run(supervisor, source).status is Status.CRASHED
    launcher = supervisor._crew
    assert launcher is not None
    assert [path.name for path in launcher.folder.iterdir()] == ["library"]
    assert Path("/etc").exists()


@pytest.mark.parametrize(
    ("sizes", "status", "reason"),
    [
        (
            SizeLimits(memory_bytes=2**20),
            Status.CRASHED,
            r"used 0\.\d+ GB of memory; limits.peak_memory_gb is 0\.00097\d+",
        ),
        (SizeLimits(parameters=1649), Status.REJECTED, r"has 0\.00 M parameters; limits.parameters_M is 0\.001649"),
    ],
)
def test_a_variant_that_is_too_large_is_ended(
    settings: SupervisorSettings, sizes: SizeLimits, status: Status, reason: str
) -> None:
    patient = replace(settings, sizes=sizes, train_seconds=3.0 if sizes.memory_bytes else settings.train_seconds)
    with Supervisor(patient) as made:
        result = run(made, HONEST)
    assert result.status is status
    assert re.fullmatch(reason, result.reason), result.reason
    assert result.val_bpb is None


def test_a_closed_supervisor_says_so(settings: SupervisorSettings) -> None:
    made = Supervisor(settings)
    made.close()
    made.close()
    with pytest.raises(SupervisionError, match="closed"):
        made.warm_up()


def test_what_cannot_start_is_said(
    settings: SupervisorSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="run `autoresearch-ray prepare`"):
        Supervisor(replace(settings, data=tmp_path / "nowhere"))
    with pytest.raises(SupervisionError, match=r"prepare\.py: cannot be read"):
        Supervisor(replace(settings, prepare=tmp_path / "prepare.py", scratch=tmp_path))
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Supervisor(settings) as made, pytest.raises(SupervisionError, match="did not start"):
        made.warm_up()


def test_damaged_targets_are_said(settings: SupervisorSettings, tmp_path: Path) -> None:
    rows = np.fromfile(make_data(tmp_path) / "val.bin", dtype=np.uint16)
    rows[3] = VOCAB_SIZE
    rows.tofile(tmp_path / "val.bin")
    with (
        Supervisor(replace(settings, data=tmp_path)) as made,
        pytest.raises(SupervisionError, match="vocabulary lacks"),
    ):
        made.warm_up()
