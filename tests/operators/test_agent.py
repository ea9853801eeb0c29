"""Command-line agents as operators: scripts that stand for them really run, hang, fork and delete."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from requests_ import SEED, request

from autoresearch_ray.config import OperatorConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operator_config import PRESETS
from autoresearch_ray.operators import dispatch
from autoresearch_ray.operators.agent import Agent
from autoresearch_ray.operators.aids import Aids
from autoresearch_ray.operators.proposal import Failure, Proposal
from autoresearch_ray.operators.transcripts import Exchange
from autoresearch_ray.training import processes
from autoresearch_ray.variant import Operator, Usage

EDIT = "text = open('train.py').read(); open('train.py', 'w').write(text.replace('DEPTH = 3 ', 'DEPTH = 4 '))"
DEEPER = SEED.replace("DEPTH = 3 ", "DEPTH = 4 ")
Make = Callable[..., Agent]


@pytest.fixture
def agent(tmp_path: Path) -> Make:
    def make(code: str, *words: str, keys: dict[str, str] | None = None, **settings: object) -> Agent:
        script = tmp_path / "agent.py"
        script.write_text(f"import os, subprocess, sys, time\n{code}\n")
        config = OperatorConfig(command=(sys.executable, str(script), *words), **settings)
        return Agent(config, keys or {}, tmp_path / "agent" / "notes.md", 30_000)

    return make


def proposed(agent: Agent, *sources: str) -> Proposal:
    answer = dispatch.propose(request(*(sources or (SEED,))), agent, Aids(reasoned_crossovers=1.0))
    assert isinstance(answer, Proposal), answer
    return answer


def failed(agent: Agent) -> str:
    answer = dispatch.propose(request(SEED), agent)
    assert isinstance(answer, Failure), answer
    return answer.reason


# -------------------------------------------------------------------------------------------------------------- answers


def test_an_edited_file_is_the_reply(agent: Make) -> None:
    answer = proposed(agent(f"{EDIT}\nprint('working')\nprint('HYPOTHESIS: one more layer')"))
    assert answer.source == DEEPER
    assert answer.hypothesis == "one more layer"
    assert answer.model == Path(sys.executable).name
    assert answer.prompt_hash
    assert answer.usage == Usage(priced=False)


def test_what_lies_in_the_folder(agent: Make, tmp_path: Path) -> None:
    code = f"print(sorted(os.listdir('.')))\nprint(open('second_parent.py').read() == {DEEPER!r})\n"
    code += "prompt = sys.stdin.read()\nprint('HYPOTHESIS:' in prompt, 'edit it in place' in prompt)\n"
    code += f"open({str(tmp_path / 'seen')!r}, 'w').write(prompt)\n{EDIT}"
    wider = SEED.replace("WIDTH = 64 ", "WIDTH = 96 ")
    answer = proposed(agent(code), wider, DEEPER)
    assert "DEPTH = 4" in answer.source
    assert "WIDTH = 96" in answer.source
    prompt = (tmp_path / "seen").read_text()
    assert "second_parent.py the second's" in prompt
    assert "Lower is better" in prompt
    assert "+WIDTH = 96" in prompt
    assert "def forward" not in prompt  # the sources are files


def test_words_are_filled_in_once_and_nothing_is_piped_then(agent: Make) -> None:
    code = "assert sys.stdin.read() == ''\nassert open(sys.argv[2]).read() == sys.argv[1]\n"
    code += "assert sys.argv[3] == 'x train.py'"
    assert proposed(agent(f"{code}\n{EDIT}", "{prompt}", "{prompt_file}", "x {file}")).source == DEEPER


def test_a_second_run_gets_the_reason_and_the_file_as_it_was_left(agent: Make) -> None:
    code = "asked = sys.stdin.read()\ntext = open('train.py').read()\n"
    code += "if 'could not be used' in asked:\n    assert 'does not parse' in asked and '= = 4' in text\n"
    code += "    open('train.py', 'w').write(text.replace('= = 4', '= 4 '))\n"
    code += "else:\n    open('train.py', 'w').write(text.replace('DEPTH = 3 ', 'DEPTH = = 4'))\nprint('HYPOTHESIS: h')"
    assert "DEPTH = 4 " in proposed(agent(code)).source


def test_notes_stay_for_those_who_come_later(agent: Make, tmp_path: Path) -> None:
    code = f"open('notes.md', 'a').write(f'note {{len(open(\"notes.md\").read())}}\\n')\n{EDIT}"
    proposed(agent(code))
    proposed(agent(code), SEED.replace("WIDTH = 64 ", "WIDTH = 96 "))
    assert (tmp_path / "agent" / "notes.md").read_text() == "note 0\nnote 7\n"


def test_a_file_full_of_fences_arrives_whole(agent: Make) -> None:
    code = (
        f"{EDIT}\nopen('train.py', 'a').write('F = \"\"\"\\n```python\\n````\\n<<<<<<< SEARCH\\n=======\\n\"\"\"\\n')"
    )
    answer = dispatch.propose(request(SEED), agent(code))
    assert isinstance(answer, Proposal)
    assert answer.source == DEEPER + 'F = """\n```python\n````\n<<<<<<< SEARCH\n=======\n"""\n'


# ----------------------------------------------------------------------------------------------------------------- cost

SAYS = "import json; print(json.dumps({'type': 'result', 'is_error': %s, 'result': 'HYPOTHESIS: deeper', "
SAYS += "'total_cost_usd': 0.25, 'usage': {'input_tokens': 2000, 'output_tokens': 100}}))"


def test_what_an_agent_says_that_it_used_is_paid(agent: Make) -> None:
    answer = proposed(agent(f"{EDIT}\n{SAYS % False}"))
    assert (answer.usage, answer.hypothesis) == (Usage(2000, 100, 0.25), "deeper")
    prices = {"usd_per_million_input": 10, "usd_per_million_output": 100}
    assert proposed(agent(f"{EDIT}\n{SAYS % False}", **prices)).usage == Usage(2000, 100, 0.03)
    free = {"usd_per_million_input": 0, "usd_per_million_output": 0}
    assert proposed(agent(EDIT, **free)).usage == Usage()
    assert proposed(agent(EDIT)).usage == proposed(agent(EDIT, **prices)).usage == Usage(priced=False)


def test_failures_are_paid_too(agent: Make) -> None:
    answer = dispatch.propose(request(SEED), agent(SAYS % True))
    assert isinstance(answer, Failure)
    assert answer.usage == Usage(2000, 100, 0.25)
    assert answer.reason.endswith("gave no answer: it reports an error (HYPOTHESIS: deeper).")
    answer = dispatch.propose(request(SEED), agent(SAYS % False))  # nothing changed, asked twice
    assert isinstance(answer, Failure)
    assert (answer.usage, answer.model) == (Usage(4000, 200, 0.5), Path(sys.executable).name)


# ------------------------------------------------------------------------------------------------------------- failures


def test_a_command_that_is_not_there_is_said_before_the_first_birth(tmp_path: Path) -> None:
    missing = Agent(OperatorConfig(command=("no-such-agent-here", "-p")), {}, tmp_path / "notes.md", 1000)
    with pytest.raises(ConfigError, match="the command 'no-such-agent-here' is not found: install it"):
        missing.check()
    assert "the command 'no-such-agent-here' cannot be started: No such file or directory." in failed(missing)
    wants = OperatorConfig(command=("true",), environment=("SOME_MISSING_API_KEY",))
    with pytest.raises(ConfigError, match="names SOME_MISSING_API_KEY, which is not set"):
        Agent(wants, {}, tmp_path / "notes.md", 1000).check()
    Agent(OperatorConfig(command=("true",)), {}, tmp_path / "notes.md", 1000).check()


def test_an_agent_that_hangs_is_killed_with_all_it_started(agent: Make, tmp_path: Path) -> None:
    code = f"""
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True)
open({str(tmp_path / "pids")!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')
time.sleep(600)
"""
    began = time.monotonic()
    reason = failed(agent(code, timeout_seconds=1.5))
    assert "gave no answer: it did not end within 1.5 s, and was killed" in reason
    assert time.monotonic() - began < 20
    for pid in (tmp_path / "pids").read_text().split():
        assert _gone(int(pid))


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        used = processes.usage(pid)
        if used is None or Path(f"/proc/{pid}/cmdline").read_bytes() == b"":  # a zombie has no command line
            return True
    return False


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("os.remove('train.py')", "train.py is gone: it was deleted"),
        ("os.remove('train.py'); os.mkdir('train.py')", "train.py is gone: it was deleted, or something else"),
        (
            "os.remove('train.py'); os.symlink('/etc/passwd', 'train.py')",
            "train.py is gone: it was deleted, or something",
        ),
        ("open('train.py', 'wb').write(b'\\xff\\xfe')", "train.py is not valid UTF-8 text"),
        ("open('train.py', 'w').write('x' * 2_000_000)", "at most 131072 are allowed"),
        ("pass", "The reply changes nothing"),
        ("print('I am not logged in'); sys.exit(3)", "it ended with exit code 3: I am not logged in"),
    ],
    ids=["deleted", "folder", "link", "bytes", "huge", "idle", "code"],
)
def test_what_is_no_answer_is_a_sentence(agent: Make, code: str, says: str) -> None:
    answer = dispatch.propose(request(SEED), agent(code))
    if isinstance(answer, Proposal):  # it is rejected by the driver's own look
        assert says in (Aids().inspect(answer.source).refusal or "")
        return
    assert says in answer.reason
    assert "\n" not in answer.reason


def test_a_deleted_file_is_there_again_for_the_second_run(agent: Make) -> None:
    code = f"asked = sys.stdin.read()\nif 'could not be used' in asked:\n    {EDIT}\nelse:\n    os.remove('train.py')"
    assert proposed(agent(code)).source == DEEPER


def test_an_agent_that_keeps_failing_is_left_alone_and_numbers_are_turned(agent: Make) -> None:
    broken = agent("sys.exit(1)")
    answers = [dispatch.propose(request(SEED, number=number), broken) for number in range(1, 5)]
    assert [type(answer) for answer in answers] == [Failure, Failure, Failure, Proposal]
    assert isinstance(answers[3], Proposal)
    assert answers[3].operator is Operator.PARAMETERS
    assert "is left alone for 60 s" in answers[3].unasked


def test_at_the_end_of_a_run_agents_are_ended(agent: Make, tmp_path: Path) -> None:
    slow = agent(f"open({str(tmp_path / 'begun')!r}, 'w').close(); time.sleep(600)")
    answers: list[Proposal | Failure] = []
    thread = threading.Thread(target=lambda: answers.append(dispatch.propose(request(SEED), slow)))
    thread.start()
    deadline = time.monotonic() + 20
    while not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        thread.join(0.05)
    slow.close()
    thread.join(20)
    assert not thread.is_alive()


# ---------------------------------------------------------------------------------------------------------- credentials


def test_an_agent_sees_named_credentials_only_and_what_it_prints_is_kept_without(
    agent: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIDDEN_API_KEY", "hidden-secret-value")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "ray-secret-value")
    keys = {"NAMED_API_KEY": "named-secret-value", "OTHER_API_KEY": "other-secret-value"}
    code = "assert os.environ['HOME'] and os.environ['PATH']\n"
    code += "print(os.environ['NAMED_API_KEY'], [n for n in os.environ if n.endswith(('_API_KEY', '_TOKEN'))])\n"
    code += f"open('notes.md', 'w').write(os.environ['NAMED_API_KEY'])\n{EDIT}"
    kept: list[Exchange] = []
    named = agent(code, keys=keys, environment=("NAMED_API_KEY",))
    answer = dispatch.propose(request(SEED), named, Aids(keep=kept.append))
    assert isinstance(answer, Proposal)
    assert answer.hypothesis == "[NAMED_API_KEY] ['NAMED_API_KEY']"
    assert "secret-value" not in str(kept) + (tmp_path / "agent" / "notes.md").read_text()


def test_presets_edit_without_asking_back() -> None:
    for name, words in PRESETS.items():
        config = OperatorConfig.model_validate(name)
        assert (config.kind, config.words) == ("agent", words)
        assert shutil_safe(words)


def shutil_safe(words: tuple[str, ...]) -> bool:
    return all(word and " " not in word for word in words)
