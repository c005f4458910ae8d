"""Parapet's check API for Python: one file; beside the standard library it needs httpx alone.

    from parapet_client import Parapet

    parapet = Parapet("https://parapet.example", "gk_...", timeout=0.2, on_error="closed")
    verdict = parapet.check(stage="output", text=answer)
    if not verdict.allowed:
        answer = verdict.output or "I cannot help with that."

Whatever the server does, `check` returns a Verdict within its deadline: a server that is slow,
dead or wrong gives one by `on_error` ("closed": block, "open": allow), with `degraded` set and
the fault's code in `error`. What a server delivers goes before: a block stays a block in either
mode, and a server that could not finish (503) says itself what its policies advise.

What the *caller* did wrong is raised as ParapetError: a bad token, a wrong address, a policy that
does not exist, a text that is too long. A guard that silently lets everything pass because its
token has expired would be the worst fault of all. Nothing is ever tried twice.

`guard` is a decorator for functions from text to text, `guard_stream` wraps a stream of tokens.
`feedback` says that a decision was wrong, so that people label its text.
`AsyncParapet` is the same for asyncio; `guard` and `guard_stream_async` take it.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import inspect
import json
import os
import re
import secrets
import ssl
import threading
import uuid
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

__all__ = [
    "AsyncParapet",
    "Blocked",
    "Parapet",
    "ParapetError",
    "Verdict",
    "guard",
    "guard_stream",
    "guard_stream_async",
]

ACTIONS = ("allow", "flag", "redact", "rewrite", "escalate", "block")
_LARGEST_BODY = 4 * 2**20
# these say something of the server's state, all other 4xx of what was sent
_SERVERS_OWN = (408, 425, 429)
_OF_TOKENS = (401, 403)
# and these of the text alone: too long, or with what is no character
_OF_THE_TEXT = ("too_large", "nul", "surrogate")
_NONE: Any = object()
_ONE_CONTENT = "Give one of text, messages, tool_call and passages, and only one."
_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s)|[。！？]|\n")
_MARKS = (".", "!", "?", "…")
_CLOSERS = "\"'”’)]"
_Function = TypeVar("_Function", bound=Callable[..., Any])
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Verdict:
    """What to do with what was checked.

    Args:
        action: allow, flag, redact, rewrite, escalate or block.
        allowed: whether it may pass as it is (allow and flag).
        degraded: whether this is less than a whole judgement.
        degraded_by: why, in codes, where the server says so: kill_switch, deadline, no_model...
        decision_id: where the server has it on record; "" where there is no answer of a server.
        reasons: what was found, as the API describes it.
        output: what may pass instead where the action is redact or rewrite: a text, or a list
            of texts for messages and passages.
        error: why there is no finished judgement, in a code; "" when there is one. Of timeout,
            unreachable, redirected, malformed, too_large, status_... or the server's own codes.
    """

    action: str
    allowed: bool
    degraded: bool = False
    decision_id: str = ""
    reasons: tuple[Mapping[str, Any], ...] = ()
    output: str | list[str] | None = None
    error: str = ""
    degraded_by: tuple[str, ...] = ()


class ParapetError(Exception):
    """The server refused what was sent: something to be mended, not to be passed over.

    Args:
        status: of HTTP.
        code: the server's word for it, "" when it gives none.
        errors: what is wrong with which field, {"pointer", "message"} each, as far as it is told.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str = "",
        errors: Sequence[Mapping[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.errors = tuple(errors)


class Blocked(Exception):
    """A guarded text must not pass."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"Parapet: {verdict.action}" + (verdict.error and f" ({verdict.error})"))
        self.verdict = verdict


class AsyncParapet:
    """The check API, for asyncio.

    Args:
        url: of the server, e.g. https://parapet.example.
        token: with the scope `check`.
        timeout: seconds for a whole check, the look-up of the name and the body included.
        on_error: what to do when the server gives no verdict, "closed" (block) or "open" (allow).
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 0.2, on_error: str = "closed"
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("Give the server's address with http:// or https://.")
        if not token.isascii() or not token.isprintable() or not token.strip():
            raise ValueError("This cannot be a token.")
        if on_error not in ("closed", "open"):
            raise ValueError('on_error is "closed" or "open".')
        if not timeout > 0:
            raise ValueError("Give a timeout above 0 seconds.")
        self._url = url.rstrip("/") + "/api/v1"
        self._headers = {
            "Authorization": f"Bearer {token.strip()}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            # a compressed body could become any size
            "Accept-Encoding": "identity",
        }
        self._timeout = timeout
        self._open = on_error == "open"
        # now, for reading the certificates takes a good part of the time that a check has
        self._tls = _certificates()
        self._kept: tuple[int, Any, httpx.AsyncClient] | None = None

    async def check(
        self,
        *,
        stage: str,
        text: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tool_call: Mapping[str, Any] | None = None,
        passages: Sequence[Any] | None = None,
        policies: Sequence[str] | None = None,
        key: str = "",
    ) -> Verdict:
        """Have one thing judged; see the module for what is returned and what is raised.

        Args:
            stage: input, output, tool_call or retrieval.
            text, messages, tool_call, passages: exactly one of them.
            policies: slugs; None means all that are active at the stage.
            key: whose traffic this is, e.g. a user's id, so that rollouts treat it alike.

        Raises:
            ParapetError: the server refuses what was sent (400, 401, 403, 404, 413 and so on).
            ValueError, TypeError: it cannot be sent.
        """
        content = _content(text, messages, tool_call, passages)
        if not content:
            raise ValueError(_ONE_CONTENT)
        body = _json({"stage": stage, **content, **_named(policies, key)})
        try:
            answer = await self._answer("/check", body, self._timeout, {})
        except _NoAnswer as error:
            return _without(self._open, str(error))
        return _verdict(answer, self._open)

    async def feedback(
        self,
        decision_id: str,
        verdict: str,
        *,
        note: str = "",
        policy: str = "",
        turn: int | None = None,
        text: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tool_call: Mapping[str, Any] | None = None,
        passages: Sequence[Any] | None = None,
        timeout: float = 5.0,
    ) -> bool:
        """Say whether a decision was right; what was judged wrongly comes to people to label.

        Args:
            decision_id: of the verdict.
            verdict: wrongly_allowed, wrongly_blocked or right.
            note: what somebody says of it, at most 2,000 characters.
            policy: slug of the one that should have found it, where several took part.
            turn: which text was judged wrongly, from 0, where there are several.
            text, messages, tool_call, passages: what was judged, as it was sent; at most one of
                them, and none where the server keeps it for this token.
            timeout: seconds, of which people have more than checks.

        Returns whether the server has it on record; where not, the same may be said again, within
        a day without being counted twice.

        Raises:
            ParapetError: the server refuses it: no such decision, another text, no policy told.
            ValueError, TypeError: it cannot be sent.
        """
        if not decision_id:
            raise ValueError("This verdict is of no server, so there is no decision on record.")
        content = _content(text, messages, tool_call, passages)
        told = {"verdict": verdict, "note": note, "policy": policy, "turn": turn, **content}
        body = _json({name: value for name, value in told.items() if value not in ("", None)})
        path = f"/decisions/{uuid.UUID(decision_id)}/feedback"
        once = hashlib.sha256(path.encode() + body).hexdigest()
        try:
            answer = await self._answer(path, body, timeout, {"Idempotency-Key": once})
        except _NoAnswer:
            return False
        if _word(answer.content, "code") != "idempotency_key_busy":
            _refuse(answer)
        return answer.status == 201

    async def aclose(self) -> None:
        """Close the connections that are kept open."""
        kept, self._kept = self._kept, None
        if kept is not None:
            await kept[2].aclose()

    async def __aenter__(self) -> AsyncParapet:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _answer(
        self, path: str, body: bytes, timeout: float, headers: Mapping[str, str]
    ) -> _Answer:
        """What the server answers, whatever it is.

        Raises:
            _NoAnswer: there is none in time, with the reason as a code.
        """
        try:
            return await asyncio.wait_for(self._post(path, body, timeout, headers), timeout)
        except _NoAnswer:
            raise
        except (asyncio.TimeoutError, httpx.TimeoutException):  # noqa: UP041 - two until 3.11
            raise _NoAnswer("timeout") from None
        except Exception:  # whatever the other side did to the connection
            raise _NoAnswer("unreachable") from None

    async def _post(
        self, path: str, body: bytes, timeout: float, headers: Mapping[str, str]
    ) -> _Answer:
        asked = self._client().stream(
            "POST",
            self._url + path,
            content=body,
            headers={**self._headers, **headers},
            timeout=timeout,
        )
        async with asked as response:
            data = bytearray()
            async for part in response.aiter_raw():
                data += part
                if len(data) > _LARGEST_BODY:
                    raise _NoAnswer("too_large")
            kind = response.headers.get("content-type", "")
            return _Answer(response.status_code, _object(kind, bytes(data)))

    def _client(self) -> httpx.AsyncClient:
        """Connections of this process and event loop: those of another would mix up answers."""
        process, loop = os.getpid(), asyncio.get_running_loop()
        if self._kept is None or self._kept[0] != process or self._kept[1] is not loop:
            client = httpx.AsyncClient(verify=self._tls, follow_redirects=False)
            self._kept = (process, loop, client)
        return self._kept[2]


class Parapet:
    """The check API, for programs without asyncio; it may be used by several threads at once.

    Args: see AsyncParapet.
    """

    def __init__(
        self, url: str, token: str, *, timeout: float = 0.2, on_error: str = "closed"
    ) -> None:
        self._twin = AsyncParapet(url, token, timeout=timeout, on_error=on_error)

    def check(
        self,
        *,
        stage: str,
        text: str | None = None,
        messages: Sequence[Mapping[str, Any]] | None = None,
        tool_call: Mapping[str, Any] | None = None,
        passages: Sequence[Any] | None = None,
        policies: Sequence[str] | None = None,
        key: str = "",
    ) -> Verdict:
        """Have one thing judged; see AsyncParapet.check."""
        return _run(
            self._twin.check(
                stage=stage,
                text=text,
                messages=messages,
                tool_call=tool_call,
                passages=passages,
                policies=policies,
                key=key,
            )
        )

    def feedback(self, decision_id: str, verdict: str, **told: Any) -> bool:
        """Say whether a decision was right; see AsyncParapet.feedback."""
        return _run(self._twin.feedback(decision_id, verdict, **told))

    def close(self) -> None:
        """Close the connections that are kept open."""
        _run(self._twin.aclose())

    def __enter__(self) -> Parapet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# from requests to bodies, and from answers to verdicts


class _NoAnswer(Exception):
    pass


@dataclass(frozen=True)
class _Answer:
    """An answer of a server; content is empty where its body is no object of JSON."""

    status: int
    content: Mapping[str, Any]


@functools.cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _content(
    text: str | None,
    messages: Sequence[Mapping[str, Any]] | None,
    tool_call: Mapping[str, Any] | None,
    passages: Sequence[Any] | None,
) -> dict[str, Any]:
    """The one that is given, by its name; empty where there is none."""
    contents = {"text": text, "messages": messages, "tool_call": tool_call, "passages": passages}
    given = {name: value for name, value in contents.items() if value is not None}
    if len(given) > 1:
        raise ValueError(_ONE_CONTENT)
    return given


def _named(policies: Sequence[str] | None, key: str) -> dict[str, Any]:
    if isinstance(policies, str):
        raise TypeError("Give policies as a list of slugs.")
    named: dict[str, Any] = {} if policies is None else {"policies": list(policies)}
    return {**named, "context": {"key": key}} if key else named


def _json(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, allow_nan=False).encode()


def _without(is_open: bool, error: str) -> Verdict:
    """The verdict where the server gives none."""
    return _of("allow" if is_open else "block", degraded=True, error=error)


def _of(action: str, **more: Any) -> Verdict:
    return Verdict(action, action in ("allow", "flag"), **more)


def _verdict(answer: _Answer, is_open: bool) -> Verdict:
    status, content = answer.status, answer.content
    if 300 <= status < 400:
        return _without(is_open, "redirected")
    _refuse(answer)
    if status != 200:
        advised = _delivered(content) if status >= 500 else None
        if advised is None:
            return _without(is_open, f"status_{status}")
        error = _word(content, "code") or f"status_{status}"
        return replace(advised, degraded=True, error=error)
    return _delivered(content) or _without(is_open, "malformed")


def _delivered(content: Mapping[str, Any]) -> Verdict | None:
    """The decision that an answer holds; None where it holds none.

    A block is one whatever else is wrong with the answer; anything milder must be whole.
    """
    action = content.get("action")
    reasons, output = content.get("reasons", []), content.get("output")
    degraded, decision = content.get("degraded"), content.get("decision_id")
    codes = content.get("degraded_by")
    if action not in ACTIONS:
        return None
    whole = (
        isinstance(reasons, list)
        and all(isinstance(reason, dict) for reason in reasons)
        and isinstance(degraded, bool)
        and isinstance(decision, str)
        and (output is None or isinstance(output, str) or _texts(output))
    )
    if whole:
        return _of(
            action,
            degraded=degraded,
            decision_id=decision,
            reasons=tuple(reasons),
            output=output,
            degraded_by=tuple(codes or ()) if _texts(codes) else (),
        )
    return _of("block", degraded=True, error="malformed") if action == "block" else None


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _refuse(answer: _Answer) -> None:
    """Raise ParapetError where the server refuses what was sent."""
    status, content = answer.status, answer.content
    # what stands in between has refusals of its own, an ingress during a deploy, say
    refused = status in _OF_TOKENS or _word(content, "code")
    if not 400 <= status < 500 or status in _SERVERS_OWN or not refused:
        return
    why = {
        401: "The token is not accepted.",
        403: "The token has not the scope check.",
        404: "There is no check API at this address, or no such policy or decision.",
    }.get(status, "The request is refused.")
    said = _word(content, "detail")
    message = f"Parapet answered {status}: {why}" + (f" It says: {said}" if said else "")
    listed = content.get("errors")
    errors = [
        {"pointer": _word(one, "pointer"), "message": _word(one, "message")}
        for one in (listed[:20] if isinstance(listed, list) else ())
        if isinstance(one, dict)
    ]
    message += "".join(f" {one['pointer']}: {one['message']}" for one in errors[:5])
    raise ParapetError(message, status=status, code=_word(content, "code"), errors=errors)


def _word(content: Mapping[str, Any], name: str) -> str:
    value = content.get(name)
    return value[:500] if isinstance(value, str) else ""


def _object(kind: str, data: bytes) -> Mapping[str, Any]:
    """An object of JSON, empty where the body is anything else."""
    media = kind.split(";")[0].strip().lower()
    if media not in ("application/json", "application/problem+json"):
        return {}
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


# an event loop in a thread, for all that is not asyncio


_running: tuple[int, asyncio.AbstractEventLoop] | None = None
_starting = threading.Lock()


def _run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Only on an event loop can a deadline cut short everything, name look-ups included."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _loop() -> asyncio.AbstractEventLoop:
    """This process's loop; a fork has no thread of its parent's."""
    global _running
    running = _running
    if running is None or running[0] != os.getpid():
        with _starting:
            running = _running
            if running is None or running[0] != os.getpid():
                loop = asyncio.new_event_loop()
                threading.Thread(target=loop.run_forever, name="parapet", daemon=True).start()
                running = _running = (os.getpid(), loop)
    return running[1]


def _new_lock() -> None:
    # another thread of the parent may have held it in the moment of the fork
    global _starting
    _starting = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


# guards


def guard(
    parapet: Parapet | AsyncParapet,
    *,
    policies: Sequence[str] | None = None,
    argument: str = "",
    fallback: Any = _NONE,
) -> Callable[[_Function], _Function]:
    """A decorator that checks a function's text argument as input, its result as output.

    A redacted text goes in, or comes out, in place of the original; a rewritten one is the
    result, and where it is the input that is rewritten the function is not called. A blank text
    passes unchecked, for there is nothing to judge. Both are on one side of every rollout.

    Args:
        parapet: an AsyncParapet for coroutine functions, else a Parapet.
        argument: the name of the parameter that is checked; needed where a call has several texts,
            or lists and objects beside its text.
        fallback: what a blocked call returns; without it Blocked is raised.

    Raises:
        Blocked: a text may not pass, or is one that cannot be judged (too long, say).
        TypeError: the call has no text to check, or several and none is named; or its result is
            no text.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError("Use guard_stream for a function that yields.")
        if inspect.iscoroutinefunction(function) != isinstance(parapet, AsyncParapet):
            raise TypeError("Coroutine functions take an AsyncParapet, others a Parapet.")

        @functools.wraps(function)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            assert isinstance(parapet, Parapet)
            call = _Call(signature, args, kwargs, argument)
            asked: dict[str, Any] = {"policies": policies, "key": secrets.token_hex(16)}
            try:
                if call.text.strip():
                    call.heard(_judged(parapet, stage="input", text=call.text, **asked))
                if call.answer is not None:
                    return call.answer
                answer = _text(function(*call.args, **call.kwargs))
                if not answer.strip():
                    return answer
                verdict = _judged(parapet, stage="output", text=answer, **asked)
                return _passing(verdict, answer)
            except Blocked:
                if fallback is _NONE:
                    raise
                return fallback

        @functools.wraps(function)
        async def guarded_async(*args: Any, **kwargs: Any) -> Any:
            assert isinstance(parapet, AsyncParapet)
            call = _Call(signature, args, kwargs, argument)
            asked: dict[str, Any] = {"policies": policies, "key": secrets.token_hex(16)}
            try:
                if call.text.strip():
                    heard = await _judged_async(parapet, stage="input", text=call.text, **asked)
                    call.heard(heard)
                if call.answer is not None:
                    return call.answer
                answer = _text(await function(*call.args, **call.kwargs))
                if not answer.strip():
                    return answer
                verdict = await _judged_async(parapet, stage="output", text=answer, **asked)
                return _passing(verdict, answer)
            except Blocked:
                if fallback is _NONE:
                    raise
                return fallback

        chosen: Any = guarded_async if isinstance(parapet, AsyncParapet) else guarded
        return chosen

    return decorate


def _judged(parapet: Parapet, **asked: Any) -> Verdict:
    try:
        return parapet.check(**asked)
    except ParapetError as error:
        return _refused(error)


async def _judged_async(parapet: AsyncParapet, **asked: Any) -> Verdict:
    try:
        return await parapet.check(**asked)
    except ParapetError as error:
        return _refused(error)


def _refused(error: ParapetError) -> Verdict:
    """A text that cannot be judged may not pass.

    Raises:
        ParapetError: what is refused is not the text, but how the caller asked.
    """
    named = error.code in _OF_THE_TEXT or any(one["pointer"] == "/text" for one in error.errors)
    if error.status not in (400, 413) or not named:
        raise error
    return _of("block", degraded=True, error=error.code)


class _Call:
    """A guarded call: its text, and what the check of that makes of the call.

    Args:
        answer: the result where the function need not be called.
    """

    def __init__(self, signature: inspect.Signature, args: Any, kwargs: Any, named: str) -> None:
        self._bound = signature.bind(*args, **kwargs)
        each = list(self._each())
        found = [(at, one) for at, one in each if isinstance(one, str) and named in ("", *at)]
        if not found:
            raise TypeError("A guarded call has no such text, so there is nothing to check.")
        # a list of messages beside the name of a model: which of them is meant?
        others = not named and any(isinstance(one, (list, tuple, dict)) for _, one in each)
        if len(found) > 1 or others:
            raise TypeError(
                "A guarded call has several texts, or lists beside its text: name what is checked, "
                "guard(..., argument=...)."
            )
        ((self._at, self.text),) = found
        self.answer: str | None = None

    @property
    def args(self) -> tuple[Any, ...]:
        return self._bound.args

    @property
    def kwargs(self) -> dict[str, Any]:
        return self._bound.kwargs

    def heard(self, verdict: Verdict) -> None:
        passing = _passing(verdict, self.text)
        if verdict.action == "rewrite":
            self.answer = passing
        elif passing is not self.text:
            self._put(passing)

    def _each(self) -> Iterator[tuple[tuple[str, Any], Any]]:
        """Every argument and its place: a parameter, and where in it."""
        for name, value in self._bound.arguments.items():
            kind = self._bound.signature.parameters[name].kind
            items: Iterable[tuple[Any, Any]] = [(_NONE, value)]
            if kind is inspect.Parameter.VAR_POSITIONAL:
                items = enumerate(value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                items = value.items()
            yield from (((name, at), item) for at, item in items)

    def _put(self, text: str) -> None:
        name, at = self._at
        held = self._bound.arguments
        if at is _NONE:
            held[name] = text
        elif isinstance(held[name], tuple):
            held[name] = (*held[name][:at], text, *held[name][at + 1 :])
        else:
            held[name] = {**held[name], at: text}


def _passing(verdict: Verdict, text: str) -> str:
    """What of a checked text may pass.

    Raises:
        Blocked: nothing.
    """
    if verdict.allowed:
        return text
    if verdict.action in ("redact", "rewrite") and isinstance(verdict.output, str):
        return verdict.output
    raise Blocked(verdict)


def _text(answer: Any) -> str:
    if not isinstance(answer, str):
        raise TypeError("A guarded function returned no text, so it cannot be checked.")
    return answer


# streams


def guard_stream(
    parapet: Parapet,
    tokens: Iterable[str],
    *,
    every: int = 1,
    policies: Sequence[str] | None = None,
    key: str = "",
    replacement: str | None = None,
) -> Iterator[str]:
    """Yield the text of a stream of tokens once it is checked, sentence by sentence.

    Each check is of all text so far, as output. What comes after the last sentence's end is held
    back until the end, and the whole text is always checked then. What is redacted comes redacted.
    The stream ends, and its source is closed, at the first action that is stronger than that, or
    where something is to be redacted that was yielded already.

    Args:
        every: sentences between two checks.
        key: whose traffic this is; by itself a stream's own, so that no rollout changes in it.
        replacement: what is yielded in place of what may not pass; without it Blocked is raised.
    """
    held = _Held(every)
    asked: dict[str, Any] = {"policies": policies, "key": key or secrets.token_hex(16)}
    source = iter(tokens)
    try:
        for token in source:
            if held.add(token):
                verdict = _judged(parapet, stage="output", text=held.checked, **asked)
                piece = held.passing(verdict)
                if piece is None:
                    yield from _instead(verdict, replacement)
                    return
                yield piece
        piece = held.rest()
        if held.checked.strip():
            verdict = _judged(parapet, stage="output", text=held.checked, **asked)
            piece = held.passing(verdict)
            if piece is None:
                yield from _instead(verdict, replacement)
                return
        if piece:
            yield piece
    finally:
        for one in {id(one): one for one in (source, tokens)}.values():
            close = getattr(one, "close", None)
            if close is not None:
                close()


async def guard_stream_async(
    parapet: AsyncParapet,
    tokens: AsyncIterable[str],
    *,
    every: int = 1,
    policies: Sequence[str] | None = None,
    key: str = "",
    replacement: str | None = None,
) -> AsyncIterator[str]:
    """The same for an asynchronous stream; see guard_stream."""
    held = _Held(every)
    asked: dict[str, Any] = {"policies": policies, "key": key or secrets.token_hex(16)}
    source = tokens.__aiter__()
    try:
        async for token in source:
            if held.add(token):
                verdict = await _judged_async(parapet, stage="output", text=held.checked, **asked)
                piece = held.passing(verdict)
                if piece is None:
                    for text in _instead(verdict, replacement):
                        yield text
                    return
                yield piece
        piece = held.rest()
        if held.checked.strip():
            verdict = await _judged_async(parapet, stage="output", text=held.checked, **asked)
            piece = held.passing(verdict)
            if piece is None:
                for text in _instead(verdict, replacement):
                    yield text
                return
        if piece:
            yield piece
    finally:
        for one in {id(one): one for one in (source, tokens)}.values():
            close = getattr(one, "aclose", None) or getattr(one, "close", None)
            closing = close() if close is not None else None
            if inspect.isawaitable(closing):
                await closing


class _Held:
    """The text of a stream: what is (to be) checked, and what waits for its sentence's end."""

    def __init__(self, every: int) -> None:
        if every < 1:
            raise ValueError("every is at least 1 sentence.")
        self.checked = ""
        self._shown = ""
        self._every = every
        self._waiting = ""
        self._ends: list[int] = []
        self._seen = 0

    def passing(self, verdict: Verdict) -> str | None:
        """What of the checked text is to be yielded next; None where the stream has to end."""
        passes: str | list[str] | None = self.checked if verdict.allowed else None
        if verdict.action == "redact":
            passes = verdict.output
        if not isinstance(passes, str) or not passes.startswith(self._shown):
            return None
        piece, self._shown = passes[len(self._shown) :], passes
        return piece

    def add(self, token: str) -> str:
        """Take a token; what is to be checked now, if enough sentences have ended."""
        if not isinstance(token, str):
            raise TypeError("A guarded stream yields texts.")
        self._waiting += token
        for match in _END.finditer(self._waiting, self._seen):
            self._ends.append(match.end())
            self._seen = match.end()
        # an end begins with the last of its marks: what stands before that is not looked at again
        bare = self._waiting.rstrip(_CLOSERS)
        self._seen = max(self._seen, len(bare) - bare.endswith(_MARKS))
        if len(self._ends) < self._every:
            return ""
        if not self.checked and not self._waiting[: self._ends[-1]].strip():
            return ""
        return self._take(self._ends[-1])

    def rest(self) -> str:
        """All that is left at the end."""
        return self._take(len(self._waiting))

    def _take(self, end: int) -> str:
        piece, self._waiting = self._waiting[:end], self._waiting[end:]
        self.checked += piece
        self._ends, self._seen = [], 0
        return piece


def _instead(verdict: Verdict, replacement: str | None) -> Iterator[str]:
    if replacement is None:
        raise Blocked(verdict)
    yield replacement
