"""A server in a thread that speaks the protocol of chat completions, and answers as told."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answering = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's `answering`."""

    protocol_version = "HTTP/1.1"
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.headers.append(dict(self.headers))
        self.server.answering(self, body)

    def reply(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Judge(ThreadingHTTPServer):
    """A server that speaks the protocol of chat completions, and all it was asked."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answering: Answering = says("safe")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are what many tests are about."""


def completion(text: Any, logprobs: dict[str, float] | None = None, lead: str = "") -> bytes:
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}}
    if logprobs is not None:
        tops = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        tokens = [{**tops[0], "top_logprobs": tops}]
        if lead:
            tokens.insert(0, {"token": lead, "logprob": 0.0, "top_logprobs": []})
        choice["logprobs"] = {"content": tokens}
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    return json.dumps({"choices": [choice], "usage": usage}).encode()


def says(text: Any, logprobs: dict[str, float] | None = None, lead: str = "") -> Answering:
    return lambda handler, _: handler.reply(completion(text, logprobs, lead))
