"""The input gate: what is refused before any view sees it, and how it is said."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as some

from apps.base.gate import MAXIMUM_DEPTH, check_text, check_value, parse_json
from apps.base.problems import Problem
from tests import factories


def code_of(data: bytes) -> str:
    with pytest.raises(Problem) as caught:
        parse_json(data)
    assert caught.value.status in (400, 413)
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"[" * 33 + b"]" * 33, "too_deep"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "too_deep"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a": 1, "a": 2}', "duplicate_key"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate_key"),
        (b'{"a": 1, "\\u0061": 2}', "duplicate_key"),
        (b"NaN", "not_finite"),
        (b'{"a": Infinity}', "not_finite"),
        (b'{"a": -Infinity}', "not_finite"),
        (b"1e400", "not_finite"),
        (b"-1e400", "not_finite"),
        (b"9" * 19, "too_many_digits"),
        (b"-" + b"9" * 5000, "too_many_digits"),
        (b'"\\ud800"', "surrogate"),
        (b'{"\\udfff": 1}', "surrogate"),
        (b'["\\ude00\\ud83d"]', "surrogate"),
        (b'"a\\u0000b"', "nul"),
        (b'{"\\u0000": 1}', "nul"),
        (b'{"a": [{"b": "\\u0000"}]}', "nul"),
        (b"\xff\xfe", "encoding"),
        (b'"\xed\xa0\x80"', "encoding"),
        (b'"\xc0\xaf"', "encoding"),
        (b"\xef\xbb\xbf{}", "not_json"),
        (b"{'a': 1}", "not_json"),
        (b"{} {}", "not_json"),
        (b'"\x00"', "not_json"),
        (b"", "not_json"),
        (b"[1,]", "not_json"),
        (b" " * (2 * 2**20 + 1), "too_large"),
        (json.dumps("x" * (2**20 + 1)).encode(), "too_large"),
    ],
)
def test_json_that_is_not_strict_is_refused_with_its_code(data: bytes, code: str) -> None:
    assert code_of(data) == code


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"[" * MAXIMUM_DEPTH + b"]" * MAXIMUM_DEPTH, None),
        (b'"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["', "[" * 42),
        (b'"\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["', '"' + "[" * 38),
        (b"9" * 18, int("9" * 18)),
        (b"1e308", 1e308),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        ('"\u2028\u0085"'.encode(), "\u2028\u0085"),
    ],
)
def test_json_that_is_strict_is_taken_whole(data: bytes, value: Any) -> None:
    found = parse_json(data)
    assert value is None or found == value


plain = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(10**18) + 1, 10**18 - 1)
    | some.floats(allow_nan=False, allow_infinity=False)
    | plain,
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(plain, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_every_plain_value_comes_through_unchanged(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(some.text(some.characters(categories=["Cs"]), min_size=1))
def test_no_lone_surrogate_comes_through(text: str) -> None:
    with pytest.raises(Problem):
        check_text(text)


@given(some.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_problem(data: bytes) -> None:
    with suppress(Problem):
        check_value(parse_json(data))


def test_the_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(Problem) as caught:
        parse_json(b'{"canary-4711": 1, "canary-4711": 2}')
    assert "4711" not in caught.value.detail


# --- over HTTP ------------------------------------------------------------------------------


@pytest.fixture
def api(db: None) -> factories.Api:
    return factories.api(factories.make_member(factories.make_workspace()))


def test_a_chunked_body_is_refused(api: factories.Api) -> None:
    answer = api.post("policies", {}, **{"Transfer-Encoding": "chunked"})
    assert answer.status_code == 411
    assert answer.json()["code"] == "length"


def test_rows_without_a_length_are_refused(api: factories.Api) -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    factories.make_policy(owner)
    answer = Client().generic(
        "POST",
        "/api/v1/imports?policy=doses&source=x",
        headers={"Authorization": f"Bearer {factories.make_token(owner)}"},
        CONTENT_TYPE="application/x-ndjson",
    )
    assert answer.status_code == 411


@pytest.mark.parametrize("length", ["abc", "-5", "1e3"])
def test_a_length_that_is_no_number_is_refused(length: str, api: factories.Api) -> None:
    owner = factories.make_member(factories.make_workspace(), "owner")
    factories.make_policy(owner)
    answer = Client(raise_request_exception=False).generic(
        "POST",
        "/api/v1/imports?policy=doses&source=x",
        b'{"output": "x"}',
        content_type="application/x-ndjson",
        headers={"Authorization": f"Bearer {factories.make_token(owner)}"},
        CONTENT_LENGTH=length,
    )
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "latin-1", "shift_jis", "x"])
def test_another_charset_is_refused(api: factories.Api, charset: str) -> None:
    kind = f"application/json; charset={charset}"
    assert api.call("POST", "policies", "{}", **{"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "utf8"])
def test_utf8_may_be_named(api: factories.Api, charset: str) -> None:
    kind = f"application/json; charset={charset}"
    answer = api.call("POST", "policies", "{}", **{"Content-Type": kind})
    assert answer.json()["code"] == "invalid"


OTHERS = [
    "text/plain",
    "text/html",
    "application/xml",
    "application/x-yaml",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/x-ndjson",
    "application/json-patch+json",
    "image/svg+xml",
    "application/octet-stream",
]


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "policies"),
        ("PATCH", "policies/x"),
        ("PUT", "policies/x/draft"),
        ("POST", "labels"),
    ],
)
def test_a_json_route_takes_json_only(
    api: factories.Api, method: str, path: str, kind: str
) -> None:
    answer = api.call(method, path, "{}", **{"Content-Type": kind})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json", "text/csv", "application/gzip"])
def test_imports_take_rows_or_a_form_only(api: factories.Api, kind: str) -> None:
    assert api.call("POST", "imports", "{}", **{"Content-Type": kind}).status_code == 415


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "application/x-ndjson"])
@pytest.mark.parametrize("url", ["/sign-in/", "/policies/new/", "/label/x/submit/", "/people/"])
def test_a_page_takes_forms_only(db: None, url: str, kind: str) -> None:
    assert Client().generic("POST", url, "{}", content_type=kind).status_code == 415


@pytest.mark.parametrize("url", ["/api/v1/policies?cursor=%00", "/sign-in/?next=a%00", "/%00/"])
def test_nul_in_an_address_is_refused(api: factories.Api, url: str) -> None:
    answer = Client(raise_request_exception=False).get(url)
    assert answer.status_code == 400


@pytest.mark.parametrize("query", ["%ff=1", "a=%ed%a0%80", "a=%c0%af", "\xff=1"])
def test_a_query_that_is_not_utf8_is_refused(db: None, query: str) -> None:
    answer = Client(raise_request_exception=False).get("/sign-in/", QUERY_STRING=query)
    assert answer.status_code == 400


def test_a_form_that_is_not_utf8_is_refused(db: None) -> None:
    kind = "application/x-www-form-urlencoded"
    answer = Client().generic("POST", "/sign-in/", b"email=%ff", content_type=kind)
    assert answer.status_code == 400


@pytest.mark.parametrize("url", ["/sign-in/", "/api/v1/policies"])
def test_a_thousand_and_one_parameters_are_refused(api: factories.Api, url: str) -> None:
    query = "&".join(f"p{n}=1" for n in range(1001))
    answer = Client(raise_request_exception=False).get(f"{url}?{query}")
    assert answer.status_code == 400


@pytest.mark.parametrize("host", ["evil.example", "localhost:x", "a b", ""])
def test_an_unknown_host_is_refused(db: None, host: str) -> None:
    for url in ("/sign-in/", "/api/v1/policies"):
        answer = Client(raise_request_exception=False).get(url, headers={"Host": host})
        assert answer.status_code in (400, 200 if not host else 400), url


@pytest.mark.parametrize("path", ["policies?pk=abc", "members?id=1", "runs?pk=abc"])
def test_an_unknown_parameter_is_refused(api: factories.Api, path: str) -> None:
    assert api.get(path).status_code in (400, 404)


@pytest.mark.parametrize("size", ["abc", "0", "-1", "201", "1e2", "1.5", ""])
def test_a_page_size_is_a_number_from_1_to_200(api: factories.Api, size: str) -> None:
    assert api.get(f"policies?page_size={size}").status_code == 400


@pytest.mark.parametrize("body", ["[]", '"x"', "5", "null", "true"])
def test_a_body_that_is_no_object_is_refused(api: factories.Api, body: str) -> None:
    answer = api.call("POST", "policies", body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "not_an_object"


def test_a_body_over_2_mib_is_refused_with_or_without_a_key(api: factories.Api) -> None:
    body = json.dumps({"name": "x" * (3 * 2**20)})
    assert api.call("POST", "policies", body).status_code == 413
    assert api.call("POST", "policies", body, **{"Idempotency-Key": "a"}).status_code == 413


def test_a_refusal_is_a_problem_document_whatever_was_accepted(api: factories.Api) -> None:
    answer = factories.Api("", Client()).get("schema", Accept="application/vnd.oai.openapi")
    assert answer.status_code == 401
    assert answer["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "not_authenticated"


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "1e999", [1], {}, "x"])
@pytest.mark.parametrize("name", ["audit_share", "audit_fraction", "retrain_after"])
def test_a_setting_that_is_no_finite_number_is_refused(
    api: factories.Api, name: str, value: Any
) -> None:
    body = {"slug": "a", "name": "A", "settings": {name: value}}
    assert api.post("policies", body).status_code == 400
