"""Real processes: programs in Python and not, honest and naughty. No assertion depends on how fast they are."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from autoresearch_ray.errors import SupervisionError
from autoresearch_ray.training import processes
from autoresearch_ray.training.block import Claims
from autoresearch_ray.training.directory import take
from autoresearch_ray.training.launching import ALLOWED_VARIABLES
from autoresearch_ray.training.limits import SizeLimits
from autoresearch_ray.training.reported import (
    ReportedSettings,
    ReportedSupervisor,
    ignores_seed,
    judge,
    link_home,
    started,
    warm_script,
)
from autoresearch_ray.training.supervisor import Phase
from autoresearch_ray.variant import Experiment, Result, Status

LONG = 120.0
BLOCK = 'print("---")\nprint("val_bpb: 1.5")\n'
AUTORESEARCH = """\
from prepare import TIME_BUDGET, evaluate_bpb

print("---")
print(f"val_bpb:          {evaluate_bpb():.6f}")
print("training_seconds: 0.001")
print("total_seconds:    1.5")
print("peak_vram_mb:     45060.2")
print("mfu_percent:      39.80")
print("total_tokens_M:   499.6")
print("num_steps:        953")
print("num_params_M:     50.3")
print("depth:            8")
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReportedSettings]:
    folder, scratch = tmp_path_factory.mktemp("program"), tmp_path_factory.mktemp("scratch")
    (folder / "prepare.py").write_text("TIME_BUDGET = 300\ndef evaluate_bpb():\n    return 0.9979\n")
    (folder / "lib").mkdir()
    (folder / "lib" / "run.py").write_text('import helper, sys\nprint("args", sys.argv[1:])\n' + BLOCK)
    (folder / "lib" / "helper.py").write_text("")
    yield ReportedSettings(
        snapshot=take(folder, "train.py"),
        evolved_file="train.py",
        command=("python", "train.py"),
        metric="val_bpb",
        train_seconds=LONG,
        longest_seconds=LONG,
        scratch=scratch,
    )
    assert list(scratch.iterdir()) == []  # every supervisor of this file is closed by now


@pytest.fixture(scope="module")
def supervisor(settings: ReportedSettings) -> Iterator[ReportedSupervisor]:
    with ReportedSupervisor(settings) as made:
        yield made


@pytest.fixture(scope="module")
def cold(settings: ReportedSettings) -> Iterator[ReportedSupervisor]:
    """Starts an interpreter for each experiment."""
    with ReportedSupervisor(replace(settings, command=("python", "-u", "train.py"))) as made:
        yield made


@pytest.fixture(scope="module")
def strict(settings: ReportedSettings) -> Iterator[ReportedSupervisor]:
    with ReportedSupervisor(replace(settings, longest_seconds=1.0)) as made:
        yield made


def run(supervisor: ReportedSupervisor, source: str, seed: int = 1) -> Result:
    *phases, result = supervisor.run(Experiment("x-0", "x", source, seed))
    assert all(isinstance(phase, Phase) for phase in phases)
    assert isinstance(result, Result)
    return result


def printed(result: Result, name: str) -> str:
    return next(line.partition("=")[2] for line in result.log_tail.splitlines() if line.startswith(f"{name}="))


def wait_until_dead(pid: int) -> None:
    deadline = time.monotonic() + LONG
    while processes.usage(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} is alive"
        time.sleep(0.01)


@pytest.mark.parametrize("which", ["supervisor", "cold"])
def test_an_autoresearch_layout_runs_as_it_is(which: str, request: pytest.FixtureRequest) -> None:
    result = run(request.getfixturevalue(which), AUTORESEARCH)
    assert (result.status, result.reason, result.verified) == (Status.COMPLETED, "", False)
    assert result.val_bpb == 0.9979
    assert result.train_seconds == 0.001
    assert result.tokens == 499_600_000
    assert result.steps == 953
    assert result.parameters == 50_300_000
    assert result.peak_memory_bytes is not None
    assert 1_000_000 < result.peak_memory_bytes < 10**9  # measured: on the CPU peak_vram_mb is not asked for
    assert result.hardware.startswith("cpu ")
    assert result.log_tail.endswith("depth:            8\n")
    assert result.started_at is not None
    assert result.ended_at is not None
    assert result.started_at < result.ended_at


@pytest.mark.parametrize(
    ("command", "source", "score"),
    [
        (("sh", "train.py", "7"), "echo METRIC val_bpb=$1.5", 7.5),
        (("sh", "-c", ". ./train.py"), "echo ---; echo val_bpb: 2; echo bye", 2.0),
        (("python", "lib/run.py", "a", "b"), "", 1.5),
        ((sys.executable, "train.py"), BLOCK, 1.5),
        (("python3", "-c", "import train"), BLOCK, 1.5),
    ],
)
def test_any_command_runs(settings: ReportedSettings, command: tuple[str, ...], source: str, score: float) -> None:
    with ReportedSupervisor(replace(settings, command=command)) as made:
        result = run(made, source)
    assert (result.status, result.val_bpb) == (Status.COMPLETED, score)
    if "a" in command:
        assert "args ['a', 'b']" in result.log_tail


def test_a_command_that_is_not_there_says_so(settings: ReportedSettings) -> None:
    with ReportedSupervisor(replace(settings, command=("no-such-program", "x"))) as made:
        result = run(made, BLOCK)
    assert (result.status, result.reason) == (Status.CRASHED, "exited with code 127")
    assert result.log_tail == "no-such-program: cannot be started (No such file or directory)\n"


NOT_NUMBER = "which is not a finite number"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "reported no val_bpb .*; it printed nothing"),
        ('print("done\\n\\n")', "reported no val_bpb .*`METRIC val_bpb=NUMBER`.*; the last line it printed is 'done'"),
        ('import sys; print("---\\nval_bpb: 1", file=sys.stderr)', "reported no val_bpb"),
        ('print("---"); print("val_bpb: nan")', f"reported val_bpb: nan, {NOT_NUMBER}"),
        (BLOCK + "print('---'); print('val_bpb:', None)", f"reported val_bpb: None, {NOT_NUMBER}"),
        (BLOCK + "raise ValueError('after all')", "ValueError: after all"),
        (BLOCK + "import sys; sys.exit(3)", "exited with code 3"),
        (BLOCK + "import os; os.abort()", "killed by SIGABRT"),
        ("x = 1\ndef f(:\n", "SyntaxError: invalid syntax"),
        ("import nothing", "ModuleNotFoundError: No module named 'nothing'"),
        ("x = '\ud800'", "SyntaxError: "),
    ],
)
def test_a_program_without_a_score_has_crashed(supervisor: ReportedSupervisor, source: str, reason: str) -> None:
    result = run(supervisor, source)
    assert (result.status, result.val_bpb) == (Status.CRASHED, None)
    assert re.match(reason, result.reason), result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize("which", ["supervisor", "cold"])
@pytest.mark.parametrize(
    "source",
    [
        BLOCK + 'print("---\\nval_bpb: 2")',
        'print("METRIC val_bpb=1")\n' + 'print("---\\nval_bpb: 2", end="")',
        BLOCK
        + 'import threading, time\ndef late():\n  time.sleep(0.1); print("METRIC val_bpb=2")\n'
        + "threading.Thread(target=late).start()",
        BLOCK + 'import atexit; atexit.register(print, "METRIC val_bpb=2")',
        BLOCK + 'import atexit, sys; atexit.register(print, "METRIC val_bpb=2"); sys.exit()',
        BLOCK + 'import os; os.write(1, b"METRIC val_bpb=2\\n"); os._exit(0)',
        'import sys\nprint("---")\nfor i in range(99): print("noise", file=sys.stderr)\nprint("val_bpb: 2")',
    ],
)
def test_the_last_score_counts(which: str, source: str, request: pytest.FixtureRequest) -> None:
    result = run(request.getfixturevalue(which), source)
    assert (result.status, result.val_bpb) == (Status.COMPLETED, 2.0)


def test_a_flood_is_drained_and_its_end_kept(supervisor: ReportedSupervisor) -> None:
    result = run(supervisor, 'for i in range(20000): print("x" * 1000)\n' + BLOCK)
    assert (result.status, result.val_bpb) == (Status.COMPLETED, 1.5)
    assert result.log_tail.endswith("---\nval_bpb: 1.5\n")
    assert len(result.log_tail.encode()) <= 8192


FORKS = """
import os, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print(f"daemon={os.getpid()}", flush=True)
            time.sleep(1e6)
        os._exit(0)
    os.wait()
time.sleep(0.2)
"""


def test_daemons_die_with_the_program_and_do_not_hold_it_up(supervisor: ReportedSupervisor) -> None:
    result = run(supervisor, FORKS + BLOCK)
    assert result.status is Status.COMPLETED
    pids = [int(line.partition("=")[2]) for line in result.log_tail.splitlines() if line.startswith("daemon=")]
    assert len(pids) == 2
    for pid in pids:
        wait_until_dead(pid)


@pytest.mark.parametrize(
    "source",
    [
        BLOCK + "import time; time.sleep(1e6)",
        BLOCK + FORKS + "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64)); time.sleep(1e6)",
        "import os\nos.close(1); os.close(2)\nwhile True: pass",
        "while True: print('---\\nval_bpb: 1\\n' * 1000)",
    ],
)
def test_what_does_not_end_is_ended(strict: ReportedSupervisor, source: str) -> None:
    result = run(strict, source)
    assert (result.status, result.reason, result.val_bpb) == (Status.TIMED_OUT, "took longer than 1 s", None)
    assert strict._crew is not None
    assert processes.descendants(strict._crew.pid) == []


def test_progress_is_told_while_it_runs_and_leaving_early_ends_it(supervisor: ReportedSupervisor) -> None:
    running = supervisor.run(Experiment("x-0", "x", "import time; time.sleep(1e6)", 1))
    phases = [next(running), next(running)]
    assert [phase.name for phase in phases if isinstance(phase, Phase)] == ["training", "training"]
    with pytest.raises(SupervisionError, match="one at a time"):
        next(supervisor.run(Experiment("x-1", "x", BLOCK, 1)))
    running.close()  # type: ignore[attr-defined]
    assert supervisor._crew is not None
    assert processes.descendants(supervisor._crew.pid) == []
    assert list(supervisor._crew.folder.iterdir()) == []


def test_experiments_leave_no_descriptor_open(supervisor: ReportedSupervisor) -> None:
    run(supervisor, BLOCK)
    assert supervisor._crew is not None
    pids = (os.getpid(), supervisor._crew.pid)

    def count() -> list[int]:
        return [len(os.listdir(f"/proc/{pid}/fd")) for pid in pids]

    before = count()
    for source in (BLOCK, "raise ValueError", FORKS):
        run(supervisor, source)
    assert count() == before


def test_a_launcher_that_is_killed_is_lost_and_replaced(supervisor: ReportedSupervisor) -> None:
    result = run(supervisor, "import os, time; os.kill(os.getppid(), 9); time.sleep(1e6)")
    assert (result.status, result.reason) == (Status.LOST, "the launcher died")
    assert run(supervisor, BLOCK).status is Status.COMPLETED


SURROUNDINGS = """
import json, os, sys
print("environment=" + json.dumps(dict(os.environ)))
print("descriptors=" + json.dumps([i for i in range(64) if os.path.lexists(f"/proc/self/fd/{i}")]))
ours = ("autoresearch_ray", "torch", "numpy")
print("ours=" + " ".join(name for name in sys.modules if name.partition(".")[0] in ours))
print("main=" + __name__ + " " + os.path.basename(__file__) + " " + os.path.basename(sys.argv[0]))
print("first=" + str(sys.path[0] == os.getcwd()))
print("session=" + str(os.getsid(0) == os.getpid()))
print("seed=" + os.environ["AUTORESEARCH_SEED"])
print("cwd=" + os.getcwd())
open("made", "w").close()
"""


@pytest.mark.parametrize("option", [(), ("-u",)])
def test_a_program_sees_only_what_is_listed(
    settings: ReportedSettings, monkeypatch: pytest.MonkeyPatch, option: tuple[str, ...]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/secret")
    with ReportedSupervisor(replace(settings, command=("python", *option, "train.py"))) as made:
        result, again = (run(made, SURROUNDINGS + BLOCK, seed) for seed in (5, 6))
    assert result.status is Status.COMPLETED
    environment = json.loads(printed(result, "environment"))
    ours = {
        *("AUTORESEARCH_DEVICE", "AUTORESEARCH_SEED", "AUTORESEARCH_TRAIN_SECONDS", "HOME", "MKL_NUM_THREADS"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "PYTHONUNBUFFERED"),
        *("TMPDIR", "USER"),
    }
    assert set(environment) - set(ALLOWED_VARIABLES) == ours
    assert "secret" not in str(environment)
    assert json.loads(printed(result, "descriptors")) == [0, 1, 2]
    assert printed(result, "ours") == ""
    assert printed(result, "main") == "__main__ train.py train.py"
    assert printed(result, "first") == printed(result, "session") == "True"
    assert [printed(each, "seed") for each in (result, again)] == ["5", "6"]
    assert not Path(printed(result, "cwd")).exists()
    assert printed(again, "cwd") != printed(result, "cwd")


SPOIL = """
import json, os, prepare
json.dumps, prepare.X, os.environ["X"] = None, 1, "1"
open("prepare.py", "w").close()
"""
LOOK = """
import json, os, prepare
assert json.dumps({}) == "{}" and not hasattr(prepare, "X") and "X" not in os.environ
prepare.evaluate_bpb()
"""


def test_nothing_of_one_experiment_reaches_the_next(supervisor: ReportedSupervisor) -> None:
    for source in (SPOIL, LOOK):
        assert run(supervisor, source + BLOCK).status is Status.COMPLETED


def test_what_may_be_read_is_found_in_the_home_directory(
    settings: ReportedSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".cache" / "autoresearch"
    (cache / "data").mkdir(parents=True)
    (cache / "data" / "shard").write_text("42")
    (tmp_path / "secret").touch()
    source = """
import os
import re
home = os.path.expanduser("~")
print("METRIC val_bpb=" + open(os.path.join(home, ".cache", "autoresearch", "data", "shard")).read())
assert not os.path.exists(os.path.join(home, "secret"))
"""
    with ReportedSupervisor(replace(settings, readable=(cache, tmp_path / "elsewhere" / "x"))) as made:
        assert run(made, source).val_bpb == 42.0
    assert (cache / "data" / "shard").exists()


def test_a_home_links_the_outermost_folder_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "ours"))
    inner, outer = tmp_path / "ours" / "a" / "b", tmp_path / "ours" / "a"
    inner.mkdir(parents=True)
    link_home([inner, outer, Path("/elsewhere")], tmp_path / "theirs")
    assert (tmp_path / "theirs" / "a").readlink() == outer
    assert list(inner.iterdir()) == []


HOG = "import time\nhog = bytearray(200 << 20)\nfor i in range(0, len(hog), 4096): hog[i] = 1\n"


@pytest.mark.parametrize("rest", ["time.sleep(1e6)", BLOCK])
def test_memory_is_limited_while_it_runs_and_at_the_end(settings: ReportedSettings, rest: str) -> None:
    with ReportedSupervisor(replace(settings, sizes=SizeLimits(memory_bytes=100 << 20))) as made:
        result = run(made, HOG + rest)
        assert result.status is Status.CRASHED
        assert re.fullmatch(r"used 0\.[12]\d GB of memory; limits.peak_memory_gb is 0\.0976562", result.reason)
        assert result.val_bpb is None
        assert run(made, BLOCK).status is Status.COMPLETED


def test_memory_is_that_of_all_processes_together(settings: ReportedSettings) -> None:
    fork = "import os\nfor _ in range(3):\n    if os.fork() == 0: break\n"
    with ReportedSupervisor(replace(settings, sizes=SizeLimits(memory_bytes=500 << 20))) as made:
        assert run(made, HOG + BLOCK).status is Status.COMPLETED
        result = run(made, fork + HOG + "time.sleep(1e6)")
    assert "GB of memory" in result.reason


def test_parameters_are_limited_as_reported(settings: ReportedSettings) -> None:
    with ReportedSupervisor(replace(settings, sizes=SizeLimits(parameters=50e6))) as made:
        result = run(made, AUTORESEARCH)
        assert (result.status, result.reason) == (
            Status.REJECTED,
            "has 50.30 M parameters; limits.parameters_M is 50",
        )
        assert result.val_bpb is None
        assert run(made, AUTORESEARCH.replace("50.3", "50.0")).status is Status.COMPLETED


@pytest.mark.parametrize("number", ["-1", "1e300", "nan", "much"])
def test_absurd_claims_are_passed_over(supervisor: ReportedSupervisor, number: str) -> None:
    names = ("total_tokens_M", "num_steps", "num_params_M", "training_seconds", "peak_vram_mb")
    result = run(supervisor, "\n".join([BLOCK, *(f'print("{name}: {number}")' for name in names)]))
    assert (result.status, result.tokens, result.steps, result.parameters) == (Status.COMPLETED, 0, 0, None)
    assert 0 <= result.train_seconds <= result.wall_seconds


@pytest.mark.parametrize(
    ("scores", "says"), [((), False), ((1.0,), False), ((1.0, 1.0), True), ((1.0, 1.0 + 1e-15, 1.0), False)]
)
def test_a_program_that_ignores_its_seed(scores: tuple[float, ...], says: bool) -> None:
    assert ignores_seed(scores) is says


def test_the_verdict_names_what_was_expected() -> None:
    verdict = judge(0, Claims({"acc": "x"}), "acc", "")
    assert (verdict.status, verdict.reason) == (Status.CRASHED, "reported acc: x, which is not a finite number")
    assert len(judge(0, Claims(), "acc", "x" * 10_000).reason) < 300


@pytest.mark.parametrize(
    ("command", "script"),
    [
        (("python", "train.py"), ("train.py",)),
        (("python3", "a/b.py", "-x"), ("a/b.py", "-x")),
        (("python", "-u", "train.py"), None),
        (("python",), None),
        (("python", "/abs/train.py"), None),
        (("/usr/bin/python", "train.py"), None),
        (("sh", "train.py"), None),
    ],
)
def test_which_commands_start_warm(command: tuple[str, ...], script: tuple[str, ...] | None) -> None:
    assert warm_script(command) == script
    assert started(command)[0] == (sys.executable if command[0].startswith("python") else command[0])
