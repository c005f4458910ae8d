"""Calls of tools: which tools, which arguments, which values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Call, Found, Subject
from tests.guardrails.checks.looking import assert_well_formed, built, refused

MAIL = {"type": "object", "required": ["to"], "properties": {"to": {"pattern": "@example\\.com$"}}}


def call(tool: str, arguments: Any) -> Subject:
    written = json.dumps(arguments, ensure_ascii=False, sort_keys=True)
    return Subject(f"{tool} {written}", calls=(Call.read(tool, arguments),))


def judged(tool: str, arguments: Any, **settings: Any) -> Found:
    return built("tool_call", **settings)(call(tool, arguments))


def test_it_passes_an_allowed_tool() -> None:
    assert judged("search", {}, allowed=["search"]).score == 0


@pytest.mark.parametrize("tool", ["delete", "Search", "search2", ""])
def test_it_finds_a_tool_that_is_not_allowed(tool: str) -> None:
    assert judged(tool, {}, allowed=["search"]).reason == "a tool that is not allowed"


@pytest.mark.parametrize("tool", ["delete", "DELETE", "ｄｅｌｅｔｅ", "del\u200bete", " delete "])
def test_it_finds_a_forbidden_tool_however_it_is_written(tool: str) -> None:
    assert judged(tool, {}, forbidden=["Delete"]).reason == "a forbidden tool"


def test_any_tool_passes_when_none_is_listed() -> None:
    assert judged("anything", {}, values=["x{3}"]).score == 0


def test_it_marks_the_tool() -> None:
    assert judged("delete", {"a": 1}, forbidden=["delete"]).spans == ((0, 6),)


def test_it_holds_arguments_against_their_schema() -> None:
    schemas = {"mail": MAIL}
    assert judged("mail", {"to": "a@example.com"}, schemas=schemas).score == 0
    said = judged("mail", {"to": "a@evil.com"}, schemas=schemas).reason
    assert said == "arguments not valid by /properties/to/pattern"
    assert judged("search", {}, schemas=schemas).score == 0


@pytest.mark.parametrize("arguments", [None, {}])
def test_no_arguments_are_an_empty_object(arguments: Any) -> None:
    evaluate = built("tool_call", schemas={"mail": MAIL, "now": {"type": "object"}})
    assert evaluate(Subject("now", calls=(Call("now", arguments),))).score == 0
    assert evaluate(Subject("mail", calls=(Call("mail", arguments),))).score == 1


def test_arguments_may_come_as_a_json_text() -> None:
    assert judged("mail", '{"to": "a@example.com"}', schemas={"mail": MAIL}).score == 0
    assert judged("mail", "not json", schemas={"mail": {"type": "object"}}).score == 1


@pytest.mark.parametrize(
    "arguments",
    [
        *[{"a": "rm -rf /"}, {"a": [1, {"b": ["x", "RM -RF /"]}]}, {"rm -rf": 1}, ["rm  -rf"]],
        *[{"a": {"rm -rf": {}}}, {"a": "ｒｍ -rf"}, {"a": "r\u200bm -rf"}, '{"a": "rm -rf"}'],
        *[{"a": '{"b": "\\u0072m -rf"}'}, {"a": '{"b": "{\\\\\\"c\\\\\\": \\\\u0072m -rf"}'}],
    ],
)
def test_it_finds_a_forbidden_value_wherever_it_stands(arguments: Any) -> None:
    assert judged("run", arguments, values=[r"rm\s+-rf"]).reason.endswith("1 forbidden value")


def test_a_forbidden_value_may_be_a_number() -> None:
    assert judged("pay", {"card": 4111111111111111}, values=["^4111"]).score == 1
    assert judged("pay", {"now": True}, values=["1|true"]).score == 0


@pytest.mark.parametrize("tool", ["Mail", " mail", "ｍail"])
def test_a_schema_is_its_tools_however_that_is_written(tool: str) -> None:
    assert judged(tool, {"to": "a@evil.com"}, schemas={"mail": MAIL}).score == 1


def test_all_schemas_hold_that_are_written_for_a_tool() -> None:
    schemas = {"mail": MAIL, "Mail": {"type": "object", "required": ["subject"]}}
    said = [
        judged("mail", {"to": to, "subject": "x"}, schemas=schemas).score
        for to in ("a@example.com", "a@evil.com")
    ]
    assert said == [0, 1]
    assert judged("mail", {"to": "a@example.com"}, schemas=schemas).score == 1


def test_two_values_together_are_not_one() -> None:
    assert judged("run", {"a": "rm", "b": "-rf"}, values=[r"rm\s*-rf"]).score == 0


def test_it_marks_the_value() -> None:
    found = judged("run", {"a": 'say "no"\n'}, values=["no"])
    text = call("run", {"a": 'say "no"\n'}).text
    assert [text[start:end] for start, end in found.spans] == ['say \\"no\\"\\n']


def test_it_tells_all_that_is_wrong() -> None:
    said = judged(
        "mail", {"to": "x"}, forbidden=["mail"], schemas={"mail": MAIL}, values=["x"]
    ).reason
    assert (
        said == "a forbidden tool, arguments not valid by /properties/to/pattern, 1 forbidden value"
    )


def test_it_finds_nothing_in_what_is_no_call() -> None:
    assert built("tool_call", allowed=["search"])(Subject("delete everything")).score == 0


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({}, "/allowed"),
        ({"allowed": ["a"], "forbidden": ["A"]}, "/forbidden"),
        ({"schemas": []}, "/schemas"),
        ({"schemas": {"a": {"type": "thing"}}}, "/schemas"),
        ({"schemas": {"a": {"$ref": "http://example.com/"}}}, "/schemas"),
        ({"values": ["("]}, "/values"),
        ({"values": ["a*"]}, "/values"),
    ],
)
def test_it_says_which_setting_is_wrong(wrong: dict[str, Any], pointer: str) -> None:
    assert refused("tool_call", **wrong) == pointer


def test_it_says_when_a_schema_is_too_much_work() -> None:
    assert judged("a", {}, schemas={"a": {"$ref": "#"}}).failed == "too_much_work"


JSON = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text('ab"\\', max_size=3), inner, max_size=3)
    ),
)


@given(arguments=JSON)
@settings(deadline=None)
def test_it_marks_what_lies_inside_any_call(arguments: Any) -> None:
    subject = call("run", arguments)
    assert_well_formed(built("tool_call", allowed=["x"], values=["[ab]"])(subject), subject.text)
