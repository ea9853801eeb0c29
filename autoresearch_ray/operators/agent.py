"""A command-line coding agent as the operator: run once for each question, in a folder with the files to edit.

Owns the folder and the process. Does not own its end (guard.py), what it prints (agent_output.py), or its
configuration: it runs as the user who started the search, with that user's login.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from autoresearch_ray.config import OperatorConfig
from autoresearch_ray.errors import ConfigError
from autoresearch_ray.operators import agent_output, credentials, guard
from autoresearch_ray.operators.agent_output import Printed
from autoresearch_ray.operators.bench import Bench
from autoresearch_ray.operators.edit import one_line
from autoresearch_ray.operators.ensemble import CallFailed
from autoresearch_ray.operators.llm import Reply
from autoresearch_ray.operators.mutation import Asks
from autoresearch_ray.operators.request import Message, Request
from autoresearch_ray.operators.workplace import Workplace, counted
from autoresearch_ray.training.preflight import LARGEST_SOURCE
from autoresearch_ray.variant import Usage

NOTES = "notes.md"
SECOND = "second_parent.py"
_PROMPT = ".prompt.md"
_TAIL = 65_536
# Characters of what it printed that count as its answer.
_LARGEST_OUTPUT = 32 << 20
# Bytes that are read at all: events of one run, which say piece by piece what it used.
_LARGEST_NOTES = 32_768


class Agent(Workplace):
    """Runs the configured command. Thread-safe: several births ask at a time, each in a folder of its own."""

    def __init__(
        self,
        settings: OperatorConfig,
        keys: Mapping[str, str],
        notes: Path,
        max_prompt_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Run nothing yet.

        Args:
            settings: command, credentials that it sees, and time for one answer.
            keys: credentials by the names of their environment variables.
            notes: the file in which agents write for those after them.
            max_prompt_tokens: tokens that a prompt may have.
            clock: seconds, for leaving an agent alone that keeps failing.
        """
        self._settings = settings
        self._keys = dict(keys)
        self._notes = notes
        self.max_prompt_tokens = max_prompt_tokens
        self._clock = clock
        self._bench = Bench()
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.closed = False

    @property
    def name(self) -> str:
        """What the lineage calls it as a model."""
        return self._settings.preset or Path(self._settings.words[0]).name

    def check(self) -> None:
        """Look for the command (Raises ConfigError: there is none, or a credential for it is missing)."""
        word = self._settings.words[0]
        if shutil.which(word) is None:
            raise ConfigError(
                f"operator: the command {word!r} is not found: install it, or give its whole path in operator.command."
            )
        absent = [name for name in self._settings.environment if not self._keys.get(name) and name not in os.environ]
        if absent:
            raise ConfigError(f"operator.environment names {absent[0]}, which is not set in the environment.")

    def close(self) -> None:
        """End the agents that are still at work."""
        self.closed = True
        for process in list(self._running):
            process.terminate()

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Asks]:
        """Write the files that a request is about into a folder, which is deleted afterwards."""
        folder = Path(tempfile.mkdtemp(prefix="autoresearch-agent-"))
        try:
            (folder / request.contract.file).parent.mkdir(parents=True, exist_ok=True)
            _write(folder / request.contract.file, request.parents[0].variant.source)
            if len(request.parents) > 1:
                _write(folder / SECOND, request.parents[1].variant.source)
            _write(folder / "program.md", request.program)
            notes = self._read_notes()
            _write(folder / NOTES, notes)
            yield _Visit(self, folder, request)
            self._keep_notes(notes, folder / NOTES)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def redact(self, text: str) -> str:
        """Return a text without keys."""
        return credentials.redact(text, self._keys)

    def resting(self) -> CallFailed | None:
        """Return a failure while the agent is left alone because it keeps failing."""
        with self._lock:
            left = self._bench.seconds_left(self.name, self._clock())
            if left <= 0 and not self.closed:
                return None
            reason = self._bench.reason(self.name)
        return CallFailed(f"{self.name} is left alone for {left:.0f} s. {reason}".strip(), Usage(), down=True)

    def run(self, folder: Path, prompt: str, file: str) -> tuple[Printed, str | None]:
        """Run the command once; return what it printed, and why that is no answer, or None."""
        _write(folder / _PROMPT, prompt)
        filled = {"{prompt}": prompt, "{prompt_file}": str(folder / _PROMPT), "{file}": file}
        words = [_filled(word, filled) for word in self._settings.words]
        piped = not any("{prompt}" in word or "{prompt_file}" in word for word in self._settings.words)
        lifeline, ours = os.pipe()
        with tempfile.TemporaryFile() as output, open(folder / _PROMPT, "rb") as asked:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", guard.__name__, str(lifeline), str(folder), *words],
                    cwd=Path(__file__).parents[2],  # where the package is; the folder may hold an agent's os.py
                    env=self._environment(),
                    stdin=asked if piped else subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lifeline,),
                )
            except (OSError, ValueError) as error:
                os.close(ours)
                reason = error.strerror if isinstance(error, OSError) else str(error)
                return Printed("", Usage()), f"the command {words[0]!r} cannot be started ({reason})"
            finally:
                os.close(lifeline)
            self._running.add(process)
            try:
                if self.closed:  # meanwhile
                    process.terminate()
                complaint = self._wait(process)
            finally:
                os.close(ours)
                process.terminate()
                process.wait()
                self._running.discard(process)
            printed = self._printed(output)
            unused = process.returncode == guard.NOT_STARTED
            return replace(printed, usage=Usage()) if unused else printed, complaint

    def answered(self, failure: str | None) -> None:
        """Take in how a run went."""
        with self._lock:
            if failure is None:
                self._bench.answered(self.name)
            else:
                self._bench.failed(self.name, self._clock(), failure)

    def _wait(self, process: subprocess.Popen[bytes]) -> str | None:
        """Wait for the command; return why it is no answer that it ended so."""
        try:
            code = process.wait(self._settings.timeout_seconds)
        except subprocess.TimeoutExpired:
            return f"it did not end within {self._settings.timeout_seconds:g} s, and was killed"
        if self.closed:
            return "the run ended before it answered"
        if code == guard.NOT_STARTED:
            return f"the command {self._settings.words[0]!r} cannot be started"
        return None if code == 0 else f"it ended with exit code {code}"

    def _printed(self, output: IO[bytes]) -> Printed:
        """Return the end of what it said, and what it used as far as that is known."""
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - _LARGEST_OUTPUT))
        printed = agent_output.read(output.read().decode(errors="replace"))
        usage = printed.usage if size <= _LARGEST_OUTPUT else replace(printed.usage, priced=False)
        return replace(printed, text=printed.text[-_TAIL:], usage=_charged(self._settings, usage))

    def _environment(self) -> dict[str, str]:
        """Return the user's environment without credentials, but for those that the configuration names."""
        ours = dict(os.environ)
        credentials.take(ours)
        ours = {name: text for name, text in ours.items() if not name.startswith(("RAY_", "AWS_SECRET"))}
        named = {name: self._keys.get(name) or os.environ.get(name, "") for name in self._settings.environment}
        return {**ours, **named}

    def _read_notes(self) -> str:
        try:
            return self._notes.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _keep_notes(self, before: str, after: Path) -> None:
        """Keep what an agent wrote; where another has written meanwhile, what was added is put below that."""
        with contextlib.suppress(OSError), self._lock:
            text = after.read_bytes()[: 4 * _LARGEST_NOTES].decode(errors="replace")
            now = self._read_notes()
            if text != before and now != before:
                text = now + (text.removeprefix(before) if text.startswith(before) else f"\n{text}")
            if text != now:
                self._notes.parent.mkdir(parents=True, exist_ok=True)
                _write(self._notes, self.redact(text[-_LARGEST_NOTES:]))


class _Visit:
    """One birth's folder, and the agent that works there, once or twice."""

    edits = True

    def __init__(self, agent: Agent, folder: Path, request: Request) -> None:
        self._agent = agent
        self._folder = folder
        self._file = request.contract.file
        self._given = request.parents[0].variant.source
        self.max_prompt_tokens = agent.max_prompt_tokens

    def count(self, messages: Sequence[Message]) -> int:
        """Estimate the tokens of messages."""
        return sum(counted(message.content) for message in messages)

    def ask(
        self, messages: Sequence[Message], rng: np.random.Generator, model: str | None = None
    ) -> Reply | CallFailed:
        """Let the agent edit the file, and return it as a reply with the whole file."""
        if (resting := self._agent.resting()) is not None:
            return resting
        new = [message for message in messages if message.role != "assistant"]
        prompt = "\n\n".join(message.content for message in (new if len(messages) < 4 else new[-1:]))
        before, _ = self._read()
        if before is None:  # an earlier run has deleted it
            before = self._given
            _restore(self._folder / self._file, before)
        printed, complaint = self._agent.run(self._folder, prompt, self._file)
        text, complaint = self._agent.redact(printed.text), complaint or _said(printed.error)
        source, missing = self._read()
        if complaint is not None and source in (None, before):
            last = next((line for line in reversed(text.splitlines()) if line.strip()), "")
            said = f": {one_line(last, 200)}" if last and last not in complaint else ""
            self._agent.answered(f"{self._agent.name}: {complaint}.")
            return CallFailed(f"The agent {self._agent.name} gave no answer: {complaint}{said}.", printed.usage)
        self._agent.answered(None)
        if source is None:
            return Reply(text, self._agent.name, printed.usage, complaint=missing)
        return Reply(text, self._agent.name, printed.usage, source=source)

    def _read(self) -> tuple[str | None, str]:
        """Return the edited file, or why there is none."""
        path = self._folder / self._file
        try:
            if path.is_symlink() or not path.is_file():
                return None, f"{self._file} is gone: it was deleted, or something else stands in its place."
            content = path.read_bytes()[: LARGEST_SOURCE + 1]
        except OSError as error:
            return None, f"{self._file} cannot be read ({error.strerror})."
        try:
            return content.decode(), ""
        except UnicodeDecodeError:
            return None, f"{self._file} is not valid UTF-8 text."


def _filled(word: str, values: Mapping[str, str]) -> str:
    """Return a word with its placeholders filled in, each once: what is filled in is not looked at again."""
    return re.sub("|".join(map(re.escape, values)), lambda found: values[found[0]], word)


def _restore(path: Path, text: str) -> None:
    """Write a file again, whatever stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, text)


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8", errors="surrogatepass"))


def _said(error: str) -> str | None:
    return f"it reports an error ({one_line(error, 200).rstrip('.')})" if error else None


def _charged(settings: OperatorConfig, usage: Usage) -> Usage:
    """Return what was used at the configured prices, or as the agent itself says."""
    prices = (settings.usd_per_million_input, settings.usd_per_million_output)
    if None in prices or (any(prices) and not (usage.tokens_in or usage.tokens_out)):
        return usage
    usd = (usage.tokens_in * (prices[0] or 0.0) + usage.tokens_out * (prices[1] or 0.0)) / 1e6
    return replace(usage, usd=usd, priced=True)


def shown(settings: OperatorConfig) -> str:
    """Return the command as one types it."""
    return shlex.join(settings.words)
