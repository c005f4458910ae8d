"""A server in a thread that answers as each test says, in every good and bad way."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answering = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request to the server's `answering`."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.headers.append({**self.headers, "path": self.path})
        self.server.answering(self, body)

    def reply(
        self, data: bytes, status: int = 200, kind: str = "application/json", **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """What it was asked, and how it answers."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, answering: Answering, path: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answering = answering
        self.url = f"http://127.0.0.1:{self.server_port}{path}"

    def handle_error(self, *_: Any) -> None:
        """Clients that hang up are what many tests are about."""


@contextmanager
def serving(answering: Answering, path: str = "") -> Iterator[Server]:
    server = Server(answering, path)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def dripping(handler: Handler, data: bytes) -> None:
    for byte in data:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def drip_body(handler: Handler, _: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "200")
    handler.end_headers()
    dripping(handler, b" " * 200)


def drip_head(handler: Handler, _: dict[str, Any]) -> None:
    dripping(handler, b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 200)


def reset(handler: Handler, _: dict[str, Any]) -> None:
    linger = struct.pack("ii", 1, 0)
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    handler.connection.close()
    handler.close_connection = True


def completion(text: Any, logprobs: dict[str, float] | None = None, lead: str = "") -> bytes:
    """What a judge says, by the protocol of chat completions."""
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
