"""An OpenAI-compatible server in a process of its own, with a scripted model that really edits the program it is shown.

It plants faults by a script, and counts for itself what it was asked and what it answered, so that a ledger can be
compared with it. Standard library only. `with running() as server:` gives its address and counts.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Step = dict[str, Any]
"""What to do with one request: {"fault": NAME, ...}; the names are those of `_Handler`'s methods `fault_*`."""

KEY = "sk-test-0123456789abcdef"
"""The key that a server started with `key=True` demands."""


# ---------------------------------------------------------------------------------------------------------------------
# For tests
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A running server, as a test sees it."""

    port: int
    process: subprocess.Popen[str]

    @property
    def api_base(self) -> str:
        """What `llm.api_base` is set to."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *steps: Step, share: float = 0.0) -> None:
        """Plan faults: one step a request in the order of arrival; then a share of requests fails in all ways."""
        self._post("/script", {"steps": steps, "share": share})

    def counts(self) -> dict[str, Any]:
        """Return `requests`, `answered`, `prompt_tokens`, `completion_tokens`, `at_once` and `faults` (by name)."""
        return self._get("/counts")

    def requests(self) -> list[dict[str, Any]]:
        """Return the bodies of all requests so far."""
        return self._get("/requests")["bodies"]  # type: ignore[no-any-return]

    def reset(self) -> None:
        """Forget counts, requests and script."""
        self._post("/reset", {})

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as response:
            return json.load(response)  # type: ignore[no-any-return]

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode())
        urllib.request.urlopen(request, timeout=10).close()


@contextlib.contextmanager
def running(*, key: bool = False) -> Iterator[Server]:
    """Start a server on a free port of the loopback; with `key` it refuses requests that do not bring `KEY`."""
    command = [sys.executable, __file__, *(["--key", KEY] if key else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process)
    finally:
        process.kill()
        process.communicate()


# ---------------------------------------------------------------------------------------------------------------------
# The model
# ---------------------------------------------------------------------------------------------------------------------

_QUOTED = re.compile(
    r"^<data (?P<key>[0-9a-f]{16}): (?P<name>[^\n]*)>\n(?P<text>.*?)\n</data (?P=key)>$", re.DOTALL | re.M
)
_SOURCE = re.compile(r"(?!hypothesis)\S+ of \w{6}")
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*) = (?P<number>\d+(?:\.\d+)?(?:e-?\d+)?)(?P<rest>\s*(?:#.*)?)")


def answer(messages: list[dict[str, str]]) -> str:
    """Return a reply to a prompt: a changed number, an inserted line, or the second parent's numbers in the first.

    The same prompt gets the same reply.
    """
    user = next((message["content"] for message in messages if message["role"] == "user"), "")
    sources = [found["text"] for found in _QUOTED.finditer(user) if _SOURCE.fullmatch(found["name"])]
    if not sources:
        return "ready"
    rng = random.Random(hashlib.sha256(json.dumps(messages).encode()).digest())
    taken = _taken_over(sources[0], sources[1], rng) if len(sources) > 1 else []
    if taken:
        return _reply(f"take over {len(taken)} numbers of the second parent", taken)
    lines = _numbers(sources[0])
    if not lines:
        return f"HYPOTHESIS: add a line\n\n```python\n{sources[0]}\nADDED = {rng.randrange(10**6)}\n```\n"
    name, line = rng.choice(sorted(lines.items()))
    if rng.random() < 0.2:
        return _reply(f"insert a line after {name}", [(line, f"{line}\nADDED_{rng.randrange(10**6)} = 1")])
    found = _ASSIGNED.fullmatch(line)
    assert found is not None
    number = _moved(found["number"], rng)
    return _reply(f"{name} {found['number']} -> {number}", [(line, f"{name} = {number}{found['rest']}")])


def _numbers(source: str) -> dict[str, str]:
    """Return the lines that assign a number and stand once in the source, by name: ALL_CAPS ones if there are any."""
    lines = source.split("\n")
    found = {match["name"]: line for line in lines if lines.count(line) == 1 and (match := _ASSIGNED.fullmatch(line))}
    return {name: line for name, line in found.items() if name.isupper()} or found


def _moved(text: str, rng: random.Random) -> str:
    if re.fullmatch(r"\d+", text):
        return str(max(1, int(text) + rng.choice((-1, 1)))) if text != "1" else "2"
    moved = f"{float(text) * rng.choice((0.7, 0.8, 1.25, 1.4)) or 0.1:.4g}"
    return moved if re.search(r"[.e]", moved) else f"{moved}.0"


def _taken_over(first: str, second: str, rng: random.Random) -> list[tuple[str, str]]:
    ours, theirs = _numbers(first), _numbers(second)
    differing = [(line, theirs[name]) for name, line in sorted(ours.items()) if theirs.get(name, line) != line]
    return rng.sample(differing, (len(differing) + 1) // 2)


def _reply(hypothesis: str, edits: list[tuple[str, str]]) -> str:
    blocks = (f"<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE" for old, new in edits)
    return "\n\n".join([f"HYPOTHESIS: {hypothesis}", *blocks])


# ---------------------------------------------------------------------------------------------------------------------
# The server
# ---------------------------------------------------------------------------------------------------------------------

STORM: tuple[Step, ...] = (
    {"fault": "status", "status": 429, "retry_after": "0.05"},
    {"fault": "status", "status": 500},
    {"fault": "status", "status": 503},
    {"fault": "truncated"},
    {"fault": "garbage"},
    {"fault": "wrong"},
    {"fault": "empty"},
    {"fault": "blank"},
    {"fault": "hang_up"},
    {"fault": "stream"},
    {"fault": "delay", "seconds": 0.2},
    {"fault": "context"},
    {"fault": "text", "text": "I would rather not."},
)
"""What `share` draws from."""


class _State:
    def __init__(self, key: str | None) -> None:
        self.key = key
        self.lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        self.steps: list[Step] = []
        self.share = 0.0
        self.random = random.Random(1)
        self.bodies: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.open = 0

    def arrive(self, body: dict[str, Any]) -> Step:
        """Count a request and decide what becomes of it."""
        with self.lock:
            self.bodies.append(body)
            self.counts["requests"] += 1
            self.open += 1
            self.counts["at_once"] = max(self.counts["at_once"], self.open)
            if self.steps:
                step = self.steps.pop(0)
            else:
                step = self.random.choice(STORM) if self.random.random() < self.share else {"fault": "none"}
            self.faults[step["fault"]] += 1
            return step

    def leave_after(self, step: Step) -> None:
        assert step["fault"] == "none", "only good answers in this format"
        self.leave()

    def leave(self) -> None:
        with self.lock:
            self.open -= 1

    def answered(self, usage: dict[str, int]) -> None:
        with self.lock:
            self.counts["answered"] += 1
            self.counts["prompt_tokens"] += usage["prompt_tokens"]
            self.counts["completion_tokens"] += usage["completion_tokens"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: _State

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        with self.state.lock:
            if self.path == "/counts":
                names = ("requests", "answered", "prompt_tokens", "completion_tokens", "at_once")
                counts = {name: self.state.counts[name] for name in names}
                self._send(200, {**counts, "faults": dict(self.state.faults)})
            elif self.path == "/requests":
                self._send(200, {"bodies": self.state.bodies})
            else:
                self._error(404, f"there is no {self.path}")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/chat/completions":
            self._complete(body)
            return
        if self.path == "/v1/messages":
            self._messages(body)
            return
        with self.state.lock:
            if self.path == "/reset":
                self.state.reset()
            elif self.path == "/script":
                self.state.steps, self.state.share = list(body["steps"]), body["share"]
        self._send(200, {})

    def _complete(self, body: dict[str, Any]) -> None:
        authorization = self.headers.get("Authorization", "")
        if self.state.key and authorization != f"Bearer {self.state.key}":
            self._error(401, f"Incorrect API key provided: {authorization}", "invalid_api_key")
            return
        step = self.state.arrive(body)
        try:
            getattr(self, f"fault_{step['fault']}")(body, step)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            self.state.leave()

    def _messages(self, body: dict[str, Any]) -> None:
        """Answer in Anthropic's wire format; what is marked is taken for cached before."""
        self.state.leave_after(self.state.arrive(body))
        blocks = [*body.get("system", []), *(part for message in body["messages"] for part in message["content"])]
        cached = sum(len(block["text"]) // 4 for block in blocks if "cache_control" in block)
        usage = {"input_tokens": 100, "output_tokens": 3, "cache_read_input_tokens": cached}
        content = [{"type": "text", "text": "ready"}]
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"]}
        self._send(200, {**head, "content": content, "stop_reason": "end_turn", "usage": usage})

    def fault_none(self, body: dict[str, Any], step: Step) -> None:
        self._answer(body, answer(body["messages"]))

    def fault_text(self, body: dict[str, Any], step: Step) -> None:
        self._answer(body, step["text"], step.get("finish", "stop"), bare=step.get("bare", False))

    def fault_blank(self, body: dict[str, Any], step: Step) -> None:
        self._answer(body, None)

    def fault_delay(self, body: dict[str, Any], step: Step) -> None:
        time.sleep(step["seconds"])
        self.fault_none(body, step)

    def fault_drip(self, body: dict[str, Any], step: Step) -> None:
        """Send a space now and then, as some gateways do, so that no read ever times out."""
        self._head(200, 10**6)
        for _ in range(int(step["seconds"] / 0.05)):
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.05)
        self.close_connection = True

    def fault_stream(self, body: dict[str, Any], step: Step) -> None:
        """Stream the answer in pieces, asked or not, as some servers do whatever the request says."""
        completion, usage = self._completion(body, answer(body["messages"]))
        text = completion["choices"][0]["message"]["content"]
        pieces = [text[start : start + 40] for start in range(0, len(text), 40)]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number, piece in enumerate(pieces):
            last = number + 1 == len(pieces)
            choice = {"index": 0, "delta": {"content": piece}, "finish_reason": "stop" if last else None}
            chunk = {
                **completion,
                "object": "chat.completion.chunk",
                "choices": [choice],
                "usage": usage if last else None,
            }
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            self.wfile.flush()
            time.sleep(step.get("seconds", 0.0))
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def fault_status(self, body: dict[str, Any], step: Step) -> None:
        headers = {"Retry-After": step["retry_after"]} if "retry_after" in step else {}
        self._error(step["status"], step.get("message", "planted"), headers=headers)

    def fault_context(self, body: dict[str, Any], step: Step) -> None:
        message = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens."
        self._error(400, message, "context_length_exceeded")

    def fault_truncated(self, body: dict[str, Any], step: Step) -> None:
        text = json.dumps(self._completion(body, "HYPOTHESIS: cut")[0]).encode()
        self._head(200, len(text))
        self.wfile.write(text[: len(text) // 2])
        self.close_connection = True

    def fault_garbage(self, body: dict[str, Any], step: Step) -> None:
        self._head(200, 22)
        self.wfile.write(b"<html>Bad day</html>\n\n")

    def fault_wrong(self, body: dict[str, Any], step: Step) -> None:
        self._send(200, {"hello": "world"})

    def fault_empty(self, body: dict[str, Any], step: Step) -> None:
        completion, usage = self._completion(body, "")
        self._send(200, {**completion, "choices": []})
        self.state.answered(usage)

    def fault_hang_up(self, body: dict[str, Any], step: Step) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _answer(self, body: dict[str, Any], text: str | None, finish: str = "stop", bare: bool = False) -> None:
        completion, usage = self._completion(body, text, finish)
        if bare:
            del completion["usage"]
        self.state.answered(usage)
        self._send(200, completion)

    def _completion(
        self, body: dict[str, Any], text: str | None, finish: str = "stop"
    ) -> tuple[dict[str, Any], dict[str, int]]:
        tokens_in = sum(len(message["content"]) // 4 + 4 for message in body["messages"])
        tokens_out = len(text or "") // 4 + 1
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        completion = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
        return {**completion, "choices": [choice], "usage": usage}, usage

    def _error(self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "planted", "code": code, "param": None}}, headers)

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self._head(status, len(text), headers)
        self.wfile.write(text)

    def _head(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until killed; the first line printed is the port."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key")
    arguments = parser.parse_args()
    _Handler.state = _State(arguments.key)
    with _Listener(("127.0.0.1", arguments.port), _Handler) as listener:
        print(listener.server_address[1], flush=True)
        listener.serve_forever()


if __name__ == "__main__":
    main()
