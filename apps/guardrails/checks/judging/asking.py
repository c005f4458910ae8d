"""Asking a judge over HTTP, and what keeps it from taking the callers down with it."""

from __future__ import annotations

import hmac
import json
import math
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ssl import SSLContext
from typing import Any

import httpcore
import httpx

from apps.base.gate import parse_json
from apps.base.problems import Problem
from apps.corpus.hashing import framed
from apps.guardrails.checks.interface import UNUSED, Found, Usage
from apps.guardrails.checks.judging.addresses import AddressRefused, Pinned, deadline
from apps.guardrails.checks.judging.families import FirstToken, Messages

LARGEST_BODY = 256 * 1024
MOST_AT_ONCE = 8
FAILURES_IN_A_ROW = 5
REST_SECONDS = 10.0
MOST_ANSWERS = 2_000
ANSWERS_SECONDS = 600.0
_MOST_TOKENS = 10**7
# what a server says of one text, not of itself; no text may put the judge to rest for all others
_ABOUT_THE_TEXT = (400, 413, 422)
LONG_BODY = 8 * 1024
"""From which on a judge may need longer than it is given, and nothing is known of short texts."""


class Failure(Exception):
    """The judge did not answer.

    Args:
        code: a stable word.
        good: whether the judge does its work all the same, as one text is to blame; None where
            nobody can tell.
    """

    def __init__(self, code: str, *, good: bool | None = False) -> None:
        super().__init__(code)
        self.code = code
        self.good = good


class Breaker:
    """Lets a judge rest after failures in a row, then tries it with one call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._rests_until = -math.inf
        self._trying = False

    def enter(self) -> bool:
        """Whether a call may be made; who may must say later how it went."""
        with self._lock:
            if self._failures < FAILURES_IN_A_ROW:
                return True
            if self._trying or time.monotonic() < self._rests_until:
                return False
            self._trying = True
            return True

    def leave(self, *, good: bool | None) -> None:
        """How the call went; None where that tells nothing of the judge."""
        with self._lock:
            self._trying = False
            if good is None:
                return
            self._failures = 0 if good else self._failures + 1
            if not good:
                self._rests_until = time.monotonic() + REST_SECONDS


class Answers:
    """The last answers, by keyed hashes: the texts themselves are not kept."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._held: OrderedDict[bytes, tuple[float, Found]] = OrderedDict()

    def key(self, texts: Sequence[str]) -> bytes:
        return hmac.digest(self._key, framed(texts), "sha256")

    def get(self, key: bytes) -> Found | None:
        with self._lock:
            until, found = self._held.get(key, (-math.inf, None))
            if found is None or time.monotonic() > until:
                self._held.pop(key, None)
                return None
            self._held.move_to_end(key)
            return found

    def put(self, key: bytes, found: Found) -> None:
        with self._lock:
            self._held[key] = (time.monotonic() + ANSWERS_SECONDS, found)
            self._held.move_to_end(key)
            if len(self._held) > MOST_ANSWERS:
                self._held.popitem(last=False)


@dataclass(frozen=True)
class Answer:
    """What a judge said; `first` is None where it tells no log-probabilities."""

    text: str
    first: FirstToken | None


class Meter:
    """Adds up what asking for one text comes to, also where it fails."""

    def __init__(self) -> None:
        self.usage = UNUSED

    def add(self, usage: Usage) -> None:
        self.usage = self.usage.plus(usage)


class Line:
    """The way to one judge; it may be used by several threads at once.

    Args:
        url: of its API, e.g. https://judge.example/v1; it must be on the operator's list.
        private: whether it may be inside of the host's own networks.
    """

    def __init__(self, url: str, *, private: bool, api_key: str) -> None:
        self._url = url.rstrip("/") + "/chat/completions"
        self.slots = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._breaker = Breaker()
        headers = {
            "Content-Type": "application/json",
            # a compressed body could become any size
            "Accept-Encoding": "identity",
            **({"Authorization": f"Bearer {api_key}"} if api_key else {}),
        }
        self._client = httpx.Client(
            transport=_Transport(private=private, tls=url.lower().startswith("https:")),
            headers=headers,
            trust_env=False,
            follow_redirects=False,
        )

    def ask(
        self,
        messages: Messages,
        *,
        request: Mapping[str, Any],
        first: bool,
        until: float,
        meter: Meter,
    ) -> Answer:
        """Ask once.

        Args:
            request: further members, the model's name among them.
            first: whether to ask for the log-probabilities of the first token.
            until: when it must be over, by time.monotonic.
            meter: what it comes to is added there.

        Raises:
            Failure: whatever kept it from answering.
        """
        if time.monotonic() >= until:
            raise Failure("timeout")
        if not self._breaker.enter():
            raise Failure("judge_resting")
        started = time.monotonic()
        good: bool | None = False
        try:
            wanted = {"logprobs": True, "top_logprobs": 20} if first else {}
            body = {"messages": messages, "temperature": 0, "stream": False, **wanted, **request}
            said = self._post(json.dumps(body).encode(), until)
            good = True
        except Failure as failure:
            good = failure.good
            raise
        finally:
            self._breaker.leave(good=good)
            meter.add(Usage(calls=1, milliseconds=(time.monotonic() - started) * 1000))
        meter.add(_tokens(said))
        return _answer(said)

    def _post(self, body: bytes, until: float) -> Any:
        deadline.set(until)
        try:
            try:
                data = self._once(body)
            except (httpcore.NetworkError, httpcore.ProtocolError):
                data = self._once(body)
        except httpcore.TimeoutException:
            raise Failure("timeout", good=None if len(body) > LONG_BODY else False) from None
        except AddressRefused:
            raise Failure("address_refused") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpx.HTTPError):
            raise Failure("refused") from None
        try:
            return parse_json(data)
        except Problem:
            raise Failure("not_json") from None

    def _once(self, body: bytes) -> bytes:
        with self._client.stream("POST", self._url, content=body) as response:
            if 300 <= response.status_code < 400:
                raise Failure("redirected")
            if response.status_code != 200:
                raise Failure("bad_status", good=response.status_code in _ABOUT_THE_TEXT)
            data = bytearray()
            for part in response.iter_raw():
                data += part
                if len(data) > LARGEST_BODY:
                    raise Failure("too_large")
            return bytes(data)


def _tokens(said: Any) -> Usage:
    """What a completion says that it took."""
    told = said.get("usage") if isinstance(said, dict) else None
    counted = told if isinstance(told, dict) else {}
    given = {name: counted.get(name) for name in ("prompt_tokens", "completion_tokens")}
    return Usage(**{n: v for n, v in given.items() if type(v) is int and 0 < v < _MOST_TOKENS})


def _answer(said: Any) -> Answer:
    """The answer in a completion.

    Raises:
        Failure: no_verdict where there is none in it.
    """
    try:
        choice = said["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise Failure("no_verdict") from None
    if not isinstance(text, str):
        raise Failure("no_verdict")
    return Answer(text, _first_token(choice.get("logprobs")))


def _first_token(logprobs: Any) -> FirstToken | None:
    """What the first token that is not white space could have been."""
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    for token in tokens if isinstance(tokens, list) else ():
        if not isinstance(token, dict) or not isinstance(token.get("token"), str):
            return None
        if token["token"].strip():
            rows = token.get("top_logprobs")
            return _by_token([*(rows if isinstance(rows, list) else ()), token]) or None
    return None


def _by_token(rows: Sequence[Any]) -> dict[str, float]:
    """Log-probabilities by token; of several forms with white space the likeliest."""
    found: dict[str, float] = {}
    for word, value in _sound(rows):
        found[word] = max(value, found.get(word, -math.inf))
    return found


def _sound(rows: Sequence[Any]) -> Iterator[tuple[str, float]]:
    for row in rows:
        if isinstance(row, dict) and isinstance(row.get("token"), str):
            value = row.get("logprob")
            # a little above 0 is rounding
            if isinstance(value, int | float) and value <= 0.01:
                yield row["token"].strip(), value


class _Transport(httpx.BaseTransport):
    """httpx over a pool that connects as `Pinned` does."""

    def __init__(self, *, private: bool, tls: bool) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls() if tls else None,
            max_connections=MOST_AT_ONCE,
            keepalive_expiry=15.0,
            network_backend=Pinned(private=private),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        url = request.url
        answer = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer))

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return self._answer.iter_stream()

    def close(self) -> None:
        self._answer.close()


@cache
def _tls() -> SSLContext:
    # reading all the certificates takes a while
    return httpx.create_ssl_context(trust_env=False)
