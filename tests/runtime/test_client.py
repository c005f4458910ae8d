"""The client that users download: what it does when Parapet answers, and when it does not.

It asks a server in a thread, over real HTTP, which answers as each test says.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.answering import Answering, Handler, Server, drip_body, drip_head, reset, serving

_FILE = Path(__file__).resolve().parents[2] / "static/client/parapet_client.py"
_spec = importlib.util.spec_from_file_location("parapet_client", _FILE)
assert _spec is not None
assert _spec.loader is not None
client = importlib.util.module_from_spec(_spec)
# dataclasses look their module up
sys.modules["parapet_client"] = client
_spec.loader.exec_module(client)


def decision(action: str, **more: Any) -> dict[str, Any]:
    return {"decision_id": "d1", "action": action, "degraded": False, "reasons": [], **more}


def decides(action: str, **more: Any) -> Answering:
    return answers(decision(action, **more))


def answers(content: Any, status: int = 200, **more: str) -> Answering:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda handler, _: handler.reply(data, status, **more)


def problem(status: int, **members: Any) -> Answering:
    content = {"status": status, "code": "not_finished", "detail": "Not finished.", **members}
    return answers(content, status, kind="application/problem+json")


def blocks(word: str, action: str = "block", **more: Any) -> Answering:
    """Decides by whether the text has a word in it."""

    def answering(handler: Handler, body: dict[str, Any]) -> None:
        decides(*((action,) if word in body["text"] else ("allow",)), **more)(handler, body)

    return answering


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(decides("allow")) as started:
        yield started


def parapet(server: Server, **settings: Any) -> Any:
    return client.Parapet(server.url, "gk_test", **{"timeout": 2.0, **settings})


def check(server: Server, **settings: Any) -> Any:
    return parapet(server, **settings).check(stage="output", text="hello")


MODES = [("closed", "block"), ("open", "allow")]
by_mode = pytest.mark.parametrize(("mode", "action"), MODES)


# what a server that works says


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        ("allow", True),
        ("flag", True),
        ("redact", False),
        ("rewrite", False),
        ("escalate", False),
        ("block", False),
    ],
)
def test_it_says_what_may_pass(server: Server, action: str, allowed: bool) -> None:
    server.answering = decides(action)
    verdict = check(server)
    assert (verdict.action, verdict.allowed) == (action, allowed)


def test_it_hands_on_all_of_a_decision(server: Server) -> None:
    server.answering = decides("redact", reasons=[{"policy": "p"}], output="[redacted]")
    assert check(server) == client.Verdict(
        "redact", False, False, "d1", ({"policy": "p"},), "[redacted]", ""
    )


def test_it_hands_on_that_a_decision_is_degraded(server: Server) -> None:
    server.answering = decides("allow", degraded=True)
    assert check(server).degraded


def test_it_takes_answers_with_members_it_does_not_know(server: Server) -> None:
    server.answering = decides("allow", news=1)
    assert check(server).error == ""


def test_it_asks_the_check_api_with_its_token(server: Server) -> None:
    check(server)
    sent = server.headers[0]
    assert (sent["path"], sent["Authorization"]) == ("/api/v1/check", "Bearer gk_test")


@pytest.mark.parametrize(
    "content",
    [
        {"text": "a\ud800\x00"},
        {"messages": [{"role": "user", "content": "hi"}]},
        {"tool_call": {"name": "rm", "arguments": {"path": "/"}}},
        {"passages": ["one", {"text": "two", "source": "s"}]},
    ],
)
def test_it_sends_each_kind_of_content(server: Server, content: dict[str, Any]) -> None:
    parapet(server).check(stage="input", policies=["a"], **content)
    assert server.asked == [{"stage": "input", "policies": ["a"], **content}]


@pytest.mark.parametrize("content", [{}, {"text": "a", "passages": ["b"]}])
def test_it_wants_exactly_one_content(server: Server, content: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only one"):
        parapet(server).check(stage="input", **content)


# what it does where the server does not work


@pytest.mark.parametrize(
    "slow", [lambda handler, _: time.sleep(5), drip_body, drip_head], ids=["hung", "body", "head"]
)
@by_mode
def test_it_answers_in_time_where_the_server_is_slow(
    server: Server, mode: str, action: str, slow: Answering
) -> None:
    server.answering = slow
    started = time.monotonic()
    verdict = check(server, timeout=0.15, on_error=mode)
    assert (verdict.action, verdict.error, time.monotonic() - started < 3) == (
        action,
        "timeout",
        True,
    )


def test_it_answers_in_time_where_nobody_takes_the_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for one in fillers:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        url = f"http://127.0.0.1:{full.getsockname()[1]}"
        verdict = client.Parapet(url, "gk_test", timeout=0.15).check(stage="output", text="hello")
        for one in fillers:
            one.close()
    assert verdict.error == "timeout"


@by_mode
def test_it_goes_by_its_mode_where_the_server_is_dead(mode: str, action: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    dead = client.Parapet(url, "gk_test", timeout=2.0, on_error=mode)
    verdict = dead.check(stage="output", text="hello")
    assert (verdict.action, verdict.degraded, verdict.error) == (action, True, "unreachable")


WRONG: dict[str, tuple[Answering, str]] = {
    "reset": (reset, "unreachable"),
    "no HTTP": (lambda handler, _: handler.wfile.write(b"SSH-2.0\r\n\r\n"), "unreachable"),
    "500": (answers(b"", 500), "status_500"),
    "500 and allow": (answers({"action": "allow"}, 500), "status_500"),
    "502 page": (answers(b"<html>", 502, kind="text/html"), "status_502"),
    "503 without advice": (problem(503), "status_503"),
    "503 with advice of no kind": (problem(503, **decision("maybe")), "status_503"),
    "429": (problem(429), "status_429"),
    "204": (answers(b"", 204), "status_204"),
    "redirect": (answers(b"", 302, Location="/elsewhere"), "redirected"),
    "permanent redirect": (answers(decision("allow"), 308, Location="/x"), "redirected"),
    "empty": (answers(b""), "malformed"),
    "page": (answers(b"<html>allow</html>", kind="text/html"), "malformed"),
    "wrong content type": (answers(decision("allow"), kind="text/plain"), "malformed"),
    "broken off": (answers(json.dumps(decision("allow")).encode()[:-1]), "malformed"),
    "deep": (answers(b"[" * 100_000), "malformed"),
    "not UTF-8": (answers(b"\xff\xfe{}"), "malformed"),
    "list": (answers([decision("allow")]), "malformed"),
    "text": (answers("allow"), "malformed"),
    "null": (answers(None), "malformed"),
    "no action": (answers({"decision_id": "d1", "degraded": False}), "malformed"),
    "unknown action": (decides("permit"), "malformed"),
    "action in capitals": (decides("ALLOW"), "malformed"),
    "action of another type": (answers({**decision("allow"), "action": ["allow"]}), "malformed"),
    "reasons of another type": (decides("allow", reasons="none"), "malformed"),
    "output of another type": (decides("redact", output=7), "malformed"),
    "degraded of another type": (decides("allow", degraded="no"), "malformed"),
    "no decision": (answers({"action": "allow", "degraded": False}), "malformed"),
    "endless": (answers(b" " * (5 * 2**20)), "too_large"),
}


@pytest.mark.parametrize("wrong", WRONG)
@by_mode
def test_it_goes_by_its_mode_where_the_server_is_wrong(
    server: Server, mode: str, action: str, wrong: str
) -> None:
    server.answering, error = WRONG[wrong]
    verdict = check(server, on_error=mode)
    assert (verdict.action, verdict.allowed, verdict.degraded, verdict.error) == (
        action,
        action == "allow",
        True,
        error,
    )


@pytest.mark.parametrize("wrong", WRONG)
def test_it_tries_nothing_twice(server: Server, wrong: str) -> None:
    server.answering, _ = WRONG[wrong]
    check(server)
    assert len(server.asked) == 1


def test_it_follows_no_redirect(server: Server) -> None:
    server.answering = answers(b"", 307, Location="/elsewhere")
    check(server)
    assert [sent["path"] for sent in server.headers] == ["/api/v1/check"]


@pytest.mark.parametrize("mode", ["closed", "open"])
@pytest.mark.parametrize("action", ["block", "allow", "flag", "escalate"])
def test_it_takes_the_advice_of_a_server_that_could_not_finish(
    server: Server, mode: str, action: str
) -> None:
    server.answering = problem(503, **decision(action, degraded=True))
    verdict = check(server, on_error=mode)
    assert (verdict.action, verdict.degraded, verdict.error) == (action, True, "not_finished")


BLOCKS: dict[str, Answering] = {
    "decision": decides("block"),
    "advice": problem(503, **decision("block")),
    "advice alone": problem(503, action="block"),
    "500": problem(500, action="block"),
    "decision with wrong members": answers({"action": "block", "reasons": 7, "output": 7}),
}


@pytest.mark.parametrize("how", BLOCKS)
def test_it_never_lets_pass_what_the_server_blocks(server: Server, how: str) -> None:
    server.answering = BLOCKS[how]
    assert check(server, on_error="open").action == "block"


@pytest.mark.parametrize("mode", ["closed", "open"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 422])
def test_it_raises_what_the_caller_did_wrong(server: Server, mode: str, status: int) -> None:
    server.answering = problem(status)
    with pytest.raises(client.ParapetError) as raised:
        check(server, on_error=mode)
    assert (raised.value.status, raised.value.code) == (status, "not_finished")


def test_a_refusal_that_is_not_parapets_goes_by_the_mode(server: Server) -> None:
    server.answering = answers(b"<html>default backend", 404, kind="text/html")
    verdict = check(server, on_error="open")
    assert (verdict.action, verdict.degraded, verdict.error) == ("allow", True, "status_404")


def test_it_says_that_a_token_is_wrong(server: Server) -> None:
    server.answering = answers(b"<html>", 401, kind="text/html")
    with pytest.raises(client.ParapetError, match="token is not accepted"):
        check(server)


@pytest.mark.parametrize(
    ("url", "token", "settings"),
    [
        ("parapet.example", "gk", {}),
        ("ftp://parapet.example", "gk", {}),
        ("https://", "gk", {}),
        ("https://parapet.example", "", {}),
        ("https://parapet.example", "gk\nX: y", {}),
        ("https://parapet.example", "gk", {"on_error": "Open"}),
        ("https://parapet.example", "gk", {"timeout": 0}),
    ],
)
def test_it_refuses_settings_that_cannot_work(
    url: str, token: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"address|token|on_error|timeout"):
        client.Parapet(url, token, **settings)


def test_it_serves_many_threads(server: Server) -> None:
    server.answering = blocks("odd")
    shared = parapet(server)
    said: dict[int, Any] = {}

    def ask(number: int) -> None:
        text = f"{'odd' if number % 2 else 'even'} {number}"
        said[number] = shared.check(stage="output", text=text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: verdict.error or verdict.action for number, verdict in said.items()} == {
        number: "block" if number % 2 else "allow" for number in range(24)
    }


def test_it_goes_on_after_it_was_closed(server: Server) -> None:
    with parapet(server) as shared:
        shared.check(stage="output", text="hello")
    assert shared.check(stage="output", text="hello").action == "allow"


def test_it_works_in_a_process_that_was_forked(server: Server) -> None:
    shared = parapet(server)
    shared.check(stage="output", text="hello")
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if shared.check(stage="output", text="hello").error == "" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# what people say of decisions

_DECISION = "01a22d6e-f403-770f-8000-000000000001"


def test_it_sends_what_is_said_of_a_decision(server: Server) -> None:
    server.answering = answers({"id": "f1", "verdict": "wrongly_allowed", "incidents": []}, 201)
    taken = parapet(server).feedback(
        _DECISION, "wrongly_allowed", note="a dose", policy="dosage", turn=0, text="Take two."
    )
    assert (taken, server.headers[-1]["path"], server.asked[-1]) == (
        True,
        f"/api/v1/decisions/{_DECISION}/feedback",
        {
            "verdict": "wrongly_allowed",
            "note": "a dose",
            "policy": "dosage",
            "turn": 0,
            "text": "Take two.",
        },
    )


def test_what_is_said_twice_is_known_as_one(server: Server) -> None:
    server.answering = answers({}, 201)
    for verdict in ("right", "right", "wrongly_blocked"):
        parapet(server).feedback(_DECISION, verdict)
    once, again, other = (sent["Idempotency-Key"] for sent in server.headers)
    assert once == again != other


@pytest.mark.parametrize("status", [429, 500, 503])
def test_it_says_that_feedback_was_not_taken(server: Server, status: int) -> None:
    server.answering = problem(status)
    assert parapet(server).feedback(_DECISION, "right") is False


def test_feedback_that_is_on_its_way_is_not_yet_taken(server: Server) -> None:
    server.answering = problem(409, code="idempotency_key_busy")
    assert parapet(server).feedback(_DECISION, "right") is False


def test_it_says_in_time_that_feedback_was_not_taken(server: Server) -> None:
    server.answering = drip_head
    begun = time.monotonic()
    assert parapet(server).feedback(_DECISION, "right", timeout=0.2) is False
    assert time.monotonic() - begun < 1


def test_it_raises_where_feedback_is_refused(server: Server) -> None:
    server.answering = problem(409, code="another_text", detail="This is not what it judged.")
    with pytest.raises(client.ParapetError, match="This is not what it judged"):
        parapet(server).feedback(_DECISION, "wrongly_blocked", text="hello")


def test_feedback_needs_a_decision_that_there_is_a_record_of(server: Server) -> None:
    verdict = client.Verdict("block", False, degraded=True, error="timeout")
    with pytest.raises(ValueError, match="no decision on record"):
        parapet(server).feedback(verdict.decision_id, "wrongly_blocked")


# asyncio


def twin(server: Server, **settings: Any) -> Any:
    return client.AsyncParapet(server.url, "gk_test", **{"timeout": 2.0, **settings})


def test_it_checks_for_asyncio(server: Server) -> None:
    server.answering = decides("block")
    assert asyncio.run(twin(server).check(stage="output", text="hello")).action == "block"


def test_it_answers_in_time_for_asyncio(server: Server) -> None:
    server.answering = drip_body
    verdict = asyncio.run(twin(server, timeout=0.15).check(stage="output", text="hello"))
    assert verdict.error == "timeout"


def test_it_works_in_one_event_loop_after_another(server: Server) -> None:
    shared = twin(server)
    said = [asyncio.run(shared.check(stage="output", text="hello")).error for _ in range(2)]
    assert said == ["", ""]


def test_it_sends_feedback_for_asyncio(server: Server) -> None:
    server.answering = answers({}, 201)
    assert asyncio.run(twin(server).feedback(_DECISION, "right")) is True


def test_it_lets_itself_be_cancelled(server: Server) -> None:
    server.answering = lambda handler, _: time.sleep(1)

    async def cancelled() -> None:
        await asyncio.wait_for(twin(server).check(stage="output", text="hello"), 0.05)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(cancelled())


# guarded functions


def echo(server: Server, **settings: Any) -> Callable[..., str]:
    @client.guard(parapet(server), **settings)
    def shout(times: int, text: str = "", *more: str, **named: str) -> str:
        return " ".join([text, *more, *named.values()]).upper() * times

    return shout


def test_it_checks_what_goes_in_and_what_comes_out(server: Server) -> None:
    echo(server, policies=["a"])(1, "hello")
    keys = {asked.pop("context")["key"] for asked in server.asked}
    assert server.asked == [
        {"stage": "input", "text": "hello", "policies": ["a"]},
        {"stage": "output", "text": "HELLO", "policies": ["a"]},
    ]
    assert len(keys) == 1, "an exchange stays on one side of a rollout"


def test_it_hands_on_what_a_guarded_function_returns(server: Server) -> None:
    assert echo(server)(2, "hello") == "HELLOHELLO"


@pytest.mark.parametrize("word", ["hello", "HELLO"], ids=["input", "output"])
@pytest.mark.parametrize("action", ["block", "escalate", "redact", "rewrite"])
def test_it_raises_where_a_guarded_text_may_not_pass(
    server: Server, word: str, action: str
) -> None:
    server.answering = blocks(word, action)
    with pytest.raises(client.Blocked) as raised:
        echo(server)(1, "hello")
    assert raised.value.verdict.action == action


@pytest.mark.parametrize("word", ["hello", "HELLO"], ids=["input", "output"])
def test_it_returns_the_fallback_where_there_is_one(server: Server, word: str) -> None:
    server.answering = blocks(word)
    assert echo(server, fallback=None)(1, "hello") is None


def test_it_never_calls_a_function_with_what_is_blocked(server: Server) -> None:
    called: list[str] = []
    server.answering = decides("block")
    client.guard(parapet(server), fallback="")(lambda text: called.append(text) or "")("hello")
    assert called == []


@pytest.mark.parametrize(
    ("args", "named"),
    [((1, "secret"), {}), ((1,), {"text": "secret"}), ((1,), {"other": "secret"})],
    ids=["by place", "by name", "among others"],
)
def test_it_calls_a_function_with_the_redacted_text(
    server: Server, args: tuple[Any, ...], named: dict[str, str]
) -> None:
    server.answering = blocks("secret", "redact", output="it")
    assert echo(server)(*args, **named).strip() == "IT"


def test_it_redacts_the_text_among_other_arguments(server: Server) -> None:
    server.answering = blocks("secret", "redact", output="it")

    @client.guard(parapet(server))
    def join(*parts: Any) -> str:
        return "-".join(map(str, parts))

    assert join(1, "secret", 2) == "1-it-2"


def chat(server: Server, **options: Any) -> Any:
    @client.guard(parapet(server), **options)
    def answer(model: str, prompt: str, **more: str) -> str:
        return f"{model}: {prompt}"

    return answer


def test_it_guesses_not_which_of_several_texts_is_meant(server: Server) -> None:
    with pytest.raises(TypeError, match="several texts"):
        chat(server)("gpt-4", "hello")
    assert server.asked == []


def test_it_takes_no_models_name_for_the_conversation(server: Server) -> None:
    @client.guard(parapet(server))
    def answer(messages: list[dict[str, str]], model: str) -> str:
        return "hello"

    with pytest.raises(TypeError, match="name what is checked"):
        answer([{"role": "user", "content": "hello"}], model="gpt-4")
    assert server.asked == []


def test_it_checks_the_argument_that_is_named(server: Server) -> None:
    assert chat(server, argument="prompt")("gpt-4", "hello", tone="kind") == "gpt-4: hello"
    assert [asked["text"] for asked in server.asked] == ["hello", "gpt-4: hello"]


def refuses(status: int, code: str) -> Answering:
    errors = [{"pointer": "/text", "message": "At most 64 KiB."}]
    return problem(status, code=code, detail="Some fields are wrong.", errors=errors)


@pytest.mark.parametrize("status", [400, 413])
def test_a_text_that_cannot_be_judged_is_blocked_by_a_guard(server: Server, status: int) -> None:
    server.answering = refuses(status, "too_large")
    guarded = client.guard(parapet(server), fallback="Sorry.")(lambda text: text)
    assert guarded("hello") == "Sorry."
    with pytest.raises(client.Blocked, match="too_large"):
        client.guard(parapet(server))(lambda text: text)("hello")


def test_a_stream_that_cannot_be_judged_ends_with_its_replacement(server: Server) -> None:
    server.answering = refuses(413, "too_large")
    assert list(client.guard_stream(parapet(server), ["One. "], replacement="Sorry.")) == ["Sorry."]


def test_a_fault_of_the_caller_is_no_matter_of_the_text(server: Server) -> None:
    errors = [{"pointer": "/policies", "message": "Name one."}]
    server.answering = problem(400, code="invalid", errors=errors)
    with pytest.raises(client.ParapetError, match="/policies"):
        client.guard(parapet(server), fallback="Sorry.")(lambda text: text)("hello")


def test_a_fault_inside_the_guarded_function_is_its_own(server: Server) -> None:
    @client.guard(parapet(server), fallback="Sorry.")
    def answer(text: str) -> str:
        raise client.ParapetError("another server's", status=413, code="too_large")

    with pytest.raises(client.ParapetError, match="another server's"):
        answer("hello")


def test_a_wrong_token_is_no_matter_of_the_text(server: Server) -> None:
    server.answering = refuses(401, "not_authenticated")
    with pytest.raises(client.ParapetError):
        client.guard(parapet(server), fallback="Sorry.")(lambda text: text)("hello")


def test_a_refusal_says_which_field_is_wrong(server: Server) -> None:
    server.answering = refuses(400, "invalid")
    with pytest.raises(client.ParapetError, match="/text: At most 64 KiB") as caught:
        parapet(server).check(stage="output", text="hello")
    assert caught.value.errors == ({"pointer": "/text", "message": "At most 64 KiB."},)


def test_it_returns_a_rewritten_output(server: Server) -> None:
    server.answering = blocks("HELLO", "rewrite", output="I cannot say that.")
    assert echo(server)(1, "hello") == "I cannot say that."


def test_it_returns_what_stands_in_for_a_rewritten_input(server: Server) -> None:
    server.answering = blocks("hello", "rewrite", output="Let us talk of something else.")
    assert echo(server)(1, "hello") == "Let us talk of something else."


def test_it_asks_nothing_about_blank_texts(server: Server) -> None:
    assert (echo(server)(1, " "), server.asked) == (" ", [])


def test_it_calls_no_function_without_a_text_to_check(server: Server) -> None:
    with pytest.raises(TypeError, match="no such text"):
        echo(server)(1)


def test_it_hands_on_no_result_that_it_cannot_check(server: Server) -> None:
    with pytest.raises(TypeError, match="no text"):
        client.guard(parapet(server))(lambda text: {"answer": text})("hello")


def test_it_guards_no_generators(server: Server) -> None:
    def tokens(text: str) -> Iterator[str]:
        yield text

    with pytest.raises(TypeError, match="guard_stream"):
        client.guard(parapet(server))(tokens)


def test_it_wants_the_parapet_that_a_function_can_wait_for(server: Server) -> None:
    async def answer(text: str) -> str:
        return text

    with pytest.raises(TypeError, match="AsyncParapet"):
        client.guard(parapet(server))(answer)


def echo_async(server: Server, **settings: Any) -> Callable[..., Any]:
    @client.guard(twin(server), **settings)
    async def shout(text: str) -> str:
        return text.upper()

    return shout


@pytest.mark.parametrize("word", ["hello", "HELLO"], ids=["input", "output"])
def test_it_guards_coroutine_functions(server: Server, word: str) -> None:
    server.answering = blocks(word)
    with pytest.raises(client.Blocked):
        asyncio.run(echo_async(server)("hello"))


def test_it_redacts_for_coroutine_functions(server: Server) -> None:
    server.answering = blocks("secret", "redact", output="it")
    assert asyncio.run(echo_async(server)("secret")) == "IT"


def test_it_falls_back_for_coroutine_functions(server: Server) -> None:
    server.answering = decides("block")
    assert asyncio.run(echo_async(server, fallback="no")("hello")) == "no"


# guarded streams


class Source:
    """A stream of tokens that knows whether it was closed."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = iter(tokens)
        self.closed = False

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> str:
        return next(self._tokens)

    def close(self) -> None:
        self.closed = True


TOKENS = ("Hel", "lo. ", "This is", " bad. Real", "ly bad. ", "Bye")


def passed(stream: Iterator[str]) -> str:
    """What of a stream came out before it was blocked."""
    out = ""
    try:
        for piece in stream:
            out += piece
    except client.Blocked:
        pass
    return out


def test_it_hands_on_all_of_a_stream_that_may_pass(server: Server) -> None:
    assert "".join(client.guard_stream(parapet(server), TOKENS)) == "".join(TOKENS)


def test_it_checks_all_text_so_far_at_each_end_of_a_sentence(server: Server) -> None:
    list(client.guard_stream(parapet(server), ["One. Tw", "o! ", "Three"], policies=["a"]))
    assert [(asked["text"], asked["policies"]) for asked in server.asked] == [
        (text, ["a"]) for text in ("One.", "One. Two!", "One. Two! Three")
    ]


def test_it_keeps_a_stream_on_one_side_of_every_rollout(server: Server) -> None:
    list(client.guard_stream(parapet(server), ["One. ", "Two. "]))
    list(client.guard_stream(parapet(server), ["One. ", "Two. "]))
    keys = [asked["context"]["key"] for asked in server.asked]
    half = len(keys) // 2
    assert len(set(keys[:half])) == len(set(keys[half:])) == 1
    assert keys[0] != keys[-1]


def test_it_says_whose_traffic_a_check_is(server: Server) -> None:
    parapet(server).check(stage="output", text="hello", key="user-7")
    assert server.asked[0]["context"] == {"key": "user-7"}


def test_it_checks_only_so_often(server: Server) -> None:
    list(client.guard_stream(parapet(server), ["A. ", "B. ", "C. ", "D. ", "E"], every=2))
    assert [asked["text"] for asked in server.asked] == [
        "A. B.",
        "A. B. C. D.",
        "A. B. C. D. E",
    ]


def test_it_never_yields_a_sentence_that_may_not_pass(server: Server) -> None:
    server.answering = blocks("bad")
    assert passed(client.guard_stream(parapet(server), TOKENS)) == "Hello."


def test_it_never_yields_what_is_bad_only_together(server: Server) -> None:
    server.answering = blocks("Be. Gone")
    assert passed(client.guard_stream(parapet(server), ["Be. ", "Gone. ", "x"])) == "Be."


def test_it_raises_where_a_stream_may_not_go_on(server: Server) -> None:
    server.answering = blocks("bad")
    with pytest.raises(client.Blocked):
        list(client.guard_stream(parapet(server), TOKENS))


def redacts(handler: Handler, body: dict[str, Any]) -> None:
    hidden = body["text"].replace("bad", "***")
    changed = hidden != body["text"]
    (decides("redact", output=hidden) if changed else decides("allow"))(handler, body)


def test_a_stream_goes_on_redacted(server: Server) -> None:
    server.answering = redacts
    stream = client.guard_stream(parapet(server), TOKENS)
    assert "".join(stream) == "".join(TOKENS).replace("bad", "***")


def test_a_stream_ends_where_what_was_yielded_is_to_be_redacted(server: Server) -> None:
    server.answering = blocks("Gone", "redact", output="*****")
    assert passed(client.guard_stream(parapet(server), ["Be. ", "Gone. ", "x"])) == "Be."


@pytest.mark.parametrize("action", ["redact", "rewrite", "escalate", "block"])
def test_it_yields_the_replacement_and_ends(server: Server, action: str) -> None:
    server.answering = blocks("bad", action, output="x")
    stream = client.guard_stream(parapet(server), TOKENS, replacement="[stopped]")
    assert list(stream) == ["Hello.", "[stopped]"]


def test_it_lets_a_flagged_stream_go_on(server: Server) -> None:
    server.answering = decides("flag")
    assert "".join(client.guard_stream(parapet(server), TOKENS)) == "".join(TOKENS)


@pytest.mark.parametrize("tokens", [["no", " end", " here"], ["An end. ", "and more"], ["End.\n"]])
def test_it_always_checks_the_whole_text_at_the_end(server: Server, tokens: list[str]) -> None:
    list(client.guard_stream(parapet(server), tokens))
    assert server.asked[-1]["text"] == "".join(tokens)


def test_it_checks_the_whole_text_at_the_end_even_where_it_was_just_checked(server: Server) -> None:
    list(client.guard_stream(parapet(server), ["End.\n"]))
    assert [asked["text"] for asked in server.asked] == ["End.\n", "End.\n"]


def test_it_never_yields_a_last_part_that_may_not_pass(server: Server) -> None:
    server.answering = blocks("bad")
    assert passed(client.guard_stream(parapet(server), ["Fine. ", "But bad"])) == "Fine."


def test_it_yields_nothing_where_a_closed_client_hears_nothing(server: Server) -> None:
    server.answering = answers(b"", 500)
    assert passed(client.guard_stream(parapet(server), TOKENS)) == ""


@pytest.mark.parametrize("tokens", [[], ["", " "], ["\n", "\n"]])
def test_it_asks_nothing_about_a_blank_stream(server: Server, tokens: list[str]) -> None:
    out = "".join(client.guard_stream(parapet(server), tokens))
    assert (out, server.asked) == ("".join(tokens), [])


def test_it_finds_the_ends_in_texts_without_spaces(server: Server) -> None:
    assert list(client.guard_stream(parapet(server), ["你好。再", "见。"])) == [
        "你好。",
        "再见。",
    ]


def test_a_long_run_of_dots_holds_nobody_up() -> None:
    held, begun = client._Held(1), time.monotonic()
    for _ in range(16_000):
        held.add(".")
    assert time.monotonic() - begun < 2
    assert held.rest() == "." * 16_000


def test_it_takes_a_dot_in_a_number_for_no_end(server: Server) -> None:
    list(client.guard_stream(parapet(server), ["It is 3.", "5 now"]))
    assert len(server.asked) == 1


@pytest.mark.parametrize("word", ["bad", "nothing"], ids=["blocked", "whole"])
def test_it_closes_the_source(server: Server, word: str) -> None:
    server.answering = blocks(word)
    source = Source(*TOKENS)
    passed(client.guard_stream(parapet(server), source))
    assert source.closed


def test_it_closes_the_source_of_a_stream_that_nobody_reads_on(server: Server) -> None:
    source = Source(*TOKENS)
    stream = client.guard_stream(parapet(server), source)
    next(stream)
    stream.close()
    assert source.closed


def test_it_reads_no_further_than_to_what_is_blocked(server: Server) -> None:
    server.answering = blocks("bad")
    source = Source(*TOKENS)
    passed(client.guard_stream(parapet(server), source))
    assert list(source._tokens) == ["ly bad. ", "Bye"]


class AsyncSource:
    """The same for asyncio."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = iter(tokens)
        self.closed = False

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        try:
            return next(self._tokens)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.closed = True


async def passed_async(stream: AsyncIterator[str]) -> str:
    out = ""
    try:
        async for piece in stream:
            out += piece
    except client.Blocked:
        out += "!"
    return out


@pytest.mark.parametrize(
    ("word", "out"),
    [("nothing", "".join(TOKENS)), ("bad", "Hello.!"), ("Bye", "".join(TOKENS[:-1])[:-1] + "!")],
    ids=["whole", "middle", "end"],
)
def test_it_guards_streams_of_asyncio(server: Server, word: str, out: str) -> None:
    server.answering = blocks(word)
    stream = client.guard_stream_async(twin(server), AsyncSource(*TOKENS))
    assert asyncio.run(passed_async(stream)) == out


def test_it_replaces_in_streams_of_asyncio(server: Server) -> None:
    server.answering = blocks("bad")
    stream = client.guard_stream_async(twin(server), AsyncSource(*TOKENS), replacement="...")
    assert asyncio.run(passed_async(stream)) == "Hello...."


def test_it_closes_the_source_of_asyncio(server: Server) -> None:
    server.answering = blocks("bad")
    source = AsyncSource(*TOKENS)
    asyncio.run(passed_async(client.guard_stream_async(twin(server), source)))
    assert source.closed
