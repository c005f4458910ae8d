"""How fast a token may ask: never faster than its limit, and never refused without a word."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.runtime import endpoint
from apps.runtime.limits import BURST, SLOTS, Buckets
from tests import factories
from tests.running import ROOT, Running
from tests.runtime.conftest import Space

NAME = UUID(int=7)


@pytest.fixture
def buckets(tmp_path: Path) -> Buckets:
    return Buckets(tmp_path / "limits")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Buckets:
    return Buckets(tmp_path_factory.mktemp("limits") / "limits")


def test_two_seconds_of_checks_are_let_in_at_once_and_then_none(buckets: Buckets) -> None:
    taken = [buckets.take(NAME, 5, now=100.0) for _ in range(11)]
    assert [one.allowed for one in taken] == [True] * 10 + [False]
    assert [one.remaining for one in taken] == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0]


def test_a_refused_one_is_told_when_the_next_may_come(buckets: Buckets) -> None:
    for _ in range(10):
        buckets.take(NAME, 5, now=100.0)
    wait = buckets.take(NAME, 5, now=100.0).wait
    assert wait == pytest.approx(0.2)
    assert not buckets.take(NAME, 5, now=100.0 + wait - 0.01).allowed
    assert buckets.take(NAME, 5, now=100.0 + wait + 0.01).allowed


def test_a_batch_is_let_in_as_a_whole_and_waited_for_afterwards(buckets: Buckets) -> None:
    assert buckets.take(NAME, 5, now=100.0).allowed
    assert buckets.take(NAME, 5, checks=19, anyway=True, now=100.0).allowed
    assert not buckets.take(NAME, 5, now=102.1).allowed
    assert buckets.take(NAME, 5, now=102.3).allowed


def test_a_restarted_machine_begins_anew(buckets: Buckets) -> None:
    for _ in range(11):
        buckets.take(NAME, 5, now=100.0)
    assert buckets.take(NAME, 5, now=1.0).allowed


def test_tokens_with_the_same_place_have_buckets_of_their_own(buckets: Buckets) -> None:
    twin = UUID(int=NAME.int + SLOTS)
    for _ in range(11):
        buckets.take(NAME, 5, now=100.0)
    assert buckets.take(twin, 5, now=100.0).remaining == 9
    assert not buckets.take(NAME, 5, now=100.0).allowed


def test_the_longest_unused_bucket_makes_room(buckets: Buckets) -> None:
    names = [UUID(int=NAME.int + number * SLOTS) for number in range(9)]
    for number, name in enumerate(names):
        for _ in range(3):
            buckets.take(name, 1, now=100.0 + number / 100)
    assert [buckets.refused(name) for name in names] == [0] + [1] * 8
    assert not buckets.take(names[1], 1, now=100.1).allowed
    assert buckets.take(names[0], 1, now=100.1).allowed


def test_a_full_disk_is_told_and_kills_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.pwrite", lambda file, data, at: len(data) - 1)
    with pytest.raises(OSError, match="no room"):
        Buckets(tmp_path / "limits")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "limits").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        Buckets(tmp_path / "limits")
    assert not (tmp_path / "elsewhere").exists()


@given(
    st.integers(1, 1000),
    st.lists(st.tuples(st.floats(0, 0.5), st.booleans()), max_size=80),
)
def test_no_more_are_let_in_than_the_limit_allows(
    shared: Buckets, rate: int, gaps: list[tuple[float, bool]]
) -> None:
    name, now, allowed = uuid4(), 1000.0, 0
    for gap, several in gaps:
        now += gap
        for _ in range(1 + 4 * several):
            allowed += shared.take(name, rate, now=now).allowed
    assert allowed <= rate * (BURST + now - 1000.0) + 1e-6


def test_processes_share_a_bucket(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from uuid import UUID;"
        "from apps.runtime.limits import Buckets; b = Buckets(Path(sys.argv[1]));"
        "print(sum(b.take(UUID(int=7), 100, now=5.0).allowed for _ in range(150)))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "limits")]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) for _ in range(3)
    ]
    assert sum(int(process.communicate()[0]) for process in running) == 200


def test_the_second_to_open_the_file_does_not_empty_the_buckets_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, look = tmp_path / "limits", os.fstat
    first = threading.Thread(target=lambda: Buckets(path).take(NAME, 5, checks=4, now=100.0))

    def look_while_another_opens(file: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", look)
        found = look(file)
        first.start()
        first.join(0.5)
        return found

    monkeypatch.setattr(os, "fstat", look_while_another_opens)
    second = Buckets(path)
    first.join()
    assert second.take(NAME, 5, now=100.0).remaining == 5


def test_an_answer_tells_the_limit(space: Space) -> None:
    answer = limited(space, 3).post("check", {"stage": "output", "text": "a text"})
    headers = {name: answer[f"RateLimit-{name}"] for name in ("Limit", "Remaining", "Reset")}
    assert headers == {"Limit": "3", "Remaining": "5", "Reset": "0"}


def test_beyond_the_limit_nothing_is_judged_and_the_answer_says_what_to_do(space: Space) -> None:
    api = limited(space, 1)
    answers = [api.post("check", {"stage": "output", "text": "two tablets"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    problem = answers[2].json()
    assert problem["code"] == "too_many_checks"
    assert "action" not in problem
    assert int(answers[2]["Retry-After"]) == 1


def test_a_refused_check_is_counted(space: Space) -> None:
    api = limited(space, 1)
    for _ in range(4):
        api.post("check", {"stage": "output", "text": "a text"})
    key = factories.make_token(space.admin, "read")
    page = factories.page_client(None).get("/metrics", headers={"Authorization": f"Bearer {key}"})
    assert f'parapet_refused_total{{token="{api.key.split("_")[1]}"}} 2.0' in page.content.decode()


def test_every_text_of_a_batch_counts(space: Space) -> None:
    api = limited(space, 2)
    items = [{"stage": "output", "text": "a text"}] * 6
    assert api.post("check/batch", {"items": items}).status_code == 200
    assert api.post("check/batch", {"items": items[:1]}).status_code == 429


def test_the_moderations_endpoint_refuses_in_openais_shape(space: Space) -> None:
    key = factories.make_token(space.admin, "check", checks_per_second=1)
    client = factories.page_client(None)
    for _ in range(3):
        answer = client.post(
            "/v1/moderations",
            {"input": ["a text"]},
            content_type="application/json",
            headers={"Authorization": f"Bearer {key}"},
        )
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == "rate_limit_error"
    assert answer["Retry-After"]


def test_an_idempotent_request_may_come_again_after_it_was_refused(space: Space) -> None:
    api = limited(space, 1)
    body = {"stage": "output", "text": "a text"}
    for _ in range(2):
        api.post("check", body)
    name = {"Idempotency-Key": "once"}
    assert api.post("check", body, **name).status_code == 429
    assert limited(space, 9).post("check", body, **name).status_code == 200


def test_a_limiter_that_is_away_stops_nothing(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_buckets", lambda: None)
    api = limited(space, 1)
    answers = [api.post("check", {"stage": "output", "text": "a text"}) for _ in range(4)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit-Limit" not in answers[0]


def test_the_limit_is_of_the_token_that_the_admin_made(space: Space) -> None:
    body = {"member": str(space.admin.membership_id), "name": "x", "scopes": ["check"]}
    page = factories.page_client(space.admin)
    answer = page.post(
        "/api/v1/tokens", json.dumps({**body, "checks_per_second": 7}), "application/json"
    )
    assert answer.json()["checks_per_second"] == 7
    too_many = {**body, "checks_per_second": 10_001}
    answer = page.post("/api/v1/tokens", json.dumps(too_many), "application/json")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (
        400,
        "/checks_per_second",
    )


@pytest.fixture(autouse=True)
def _still(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still for buckets in this process, however slow the machine is."""
    if "space" in request.fixturenames:
        clock = SimpleNamespace(monotonic=lambda: 5.0)
        monkeypatch.setattr("apps.runtime.limits.time", clock)


def limited(space: Space, checks_per_second: int) -> factories.Api:
    key = factories.make_token(space.admin, "check", checks_per_second=checks_per_second)
    return factories.Api(key, factories.page_client(None))


def test_32_callers_of_all_web_processes_get_what_the_token_may(site: Running) -> None:
    site.workspace("limited")
    key = site.manage(
        *("issue_token", "admin@limited.example", "--workspace", "limited"),
        *("--scope", "check", "--checks-per-second", "10"),
    )

    caller = httpx.Client(
        base_url=site.address,
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
        # past 20 it closes those it calls idle, also one a thread has just been given
        limits=httpx.Limits(max_keepalive_connections=None),
    )

    def call(_: int) -> int:
        answer = caller.post("/api/v1/check", json={"stage": "output", "text": "a text"})
        return answer.status_code

    started = time.monotonic()
    with caller, ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(call, range(400)))
    took = time.monotonic() - started
    allowed = answers.count(200)
    assert set(answers) == {200, 429}
    assert 20 <= allowed <= (10 * (2 + took)) * 1.05


def test_a_refused_caller_keeps_its_connection(site: Running) -> None:
    site.workspace("refused")
    key = site.manage(
        *("issue_token", "admin@refused.example", "--workspace", "refused"),
        *("--scope", "check", "--checks-per-second", "1"),
    )
    body = json.dumps({"stage": "output", "text": "a text"}).encode()
    address = httpx.URL(site.address)
    head = (
        "POST /api/v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    found = []
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        for _ in range(5):
            connection.sendall(head)
            time.sleep(0.05)  # an answer that does not wait for the body would come now
            connection.sendall(body)
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            answer.read()
            found.append(answer.status)
    assert found[:2] == [200, 200]
    assert 429 in found
    assert set(found) == {200, 429}


def test_nobody_waits_for_the_body_of_somebody_unknown(site: Running) -> None:
    address = httpx.URL(site.address)
    head = (
        b"POST /api/v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 2000\r\n\r\n{"s'
    )
    with socket.create_connection((address.host, address.port), timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 401")
