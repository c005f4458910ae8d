"""JSON Schema: valid or not, patterns by RE2, nothing from the network, bounded work."""

from __future__ import annotations

import json
import socket
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Call, Subject
from apps.guardrails.checks.json_schema import Schema, SchemaRefused, begin_work
from apps.guardrails.contents import subjects_of
from tests.guardrails.checks.looking import built, filled, seconds

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "https://example.com/person.json",
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"$ref": "#/$defs/name"}, "age": {"type": "integer", "minimum": 0}},
    "patternProperties": {"^x-": {"type": "string"}},
    "additionalProperties": False,
    "$defs": {"name": {"type": "string", "pattern": "^[A-Z][a-z]+$"}},
}


def score(schema: dict[str, Any], text: str, **more: Any) -> float:
    return built("json_schema", schema=schema, **more)(Subject(text)).score


def why_refused(schema: Any) -> str:
    with pytest.raises(SchemaRefused) as caught:
        Schema(schema)
    return str(caught.value)


@pytest.mark.parametrize("text", ['{"name": "Ann"}', ' {"name":"Ann","age":3,"x-y":"z"}\n'])
def test_it_passes_what_is_valid(text: str) -> None:
    assert score(PERSON, text) == 0


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("{}", "/required"),
        ('{"name": "ann"}', "/properties/name/pattern"),
        ('{"name": "Ann", "age": -1}', "/properties/age/minimum"),
        ('{"name": "Ann", "x-y": 1}', "/patternProperties/^x-/type"),
        ('{"name": "Ann", "z": 1}', "/additionalProperties"),
        ("[]", "/type"),
    ],
)
def test_it_finds_what_is_not_and_says_by_what(text: str, path: str) -> None:
    assert (
        built("json_schema", schema=PERSON)(Subject(text)).reason
        == f"JSON, but not valid by {path}"
    )


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "hello",
            "{'a': 1}",
            '{"a": 1,}',
            '{"a": NaN}',
            '{"a": 1, "a": 2}',
            "1e999",
            "[" * 100,
        ],
        *['{"name": "Ann"} and more', '"\\ud800"', '"\\u0000"', "9" * 30],
    ],
)
def test_it_finds_what_is_no_strict_json(text: str) -> None:
    assert score({"type": ["object", "array", "string", "number"]}, text) == 1


@pytest.mark.parametrize("text", ["```json\n{}\n```", "\n```\n{}```  ", "```JSON\n{}\n```"])
def test_it_may_stand_in_a_fence(text: str) -> None:
    assert score({"type": "object"}, text) == 0
    assert score({"type": "object"}, text, fenced=False) == 1


@pytest.mark.parametrize(
    "text", ["```python\n{}\n```", "see\n```json\n{}\n```", "```json\n{}", "``````"]
)
def test_nothing_may_stand_around_a_fence(text: str) -> None:
    assert score({"type": "object"}, text) == 1


# what is no schema


@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ([], "object"),
        ({"type": "thing"}, "/type"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "2020-12"),
        ({"$ref": "https://example.com/other.json"}, "nothing is fetched"),
        ({"$ref": "file:///etc/passwd"}, "nothing is fetched"),
        ({"properties": {"a": {"$dynamicRef": "http://example.com/a#b"}}}, "nothing is fetched"),
        ({"$ref": "#/$defs/missing"}, "nothing in this schema"),
        ({"properties": {"a": {"pattern": "(?=a)b"}}}, "RE2"),
        ({"patternProperties": {r"(a)\1": {}}}, "RE2"),
        ({"$ref": "#/x", "x": {"pattern": "(?<!a)b"}}, "RE2"),
        ({"$ref": "#/x", "x": {"type": "thing"}}, "/type"),
        ({"properties": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "$schema"),
        ({"$defs": {"a": {"$id": "https://example.com/a"}}}, "$id"),
        ({"unevaluatedProperties": False, "patternProperties": {"a": {}}}, "additionalProperties"),
    ],
)
def test_it_says_what_is_wrong_with_a_schema(schema: Any, word: str) -> None:
    assert word in why_refused(schema)


def test_a_name_that_looks_like_a_keyword_is_a_name() -> None:
    schema = {"properties": {"pattern": {"type": "string"}, "$ref": {"type": "string"}}}
    assert score(schema, '{"pattern": "(?=", "$ref": "x"}') == 0


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    why_refused({"$ref": "http://127.0.0.1:9/x.json"})


# patterns

SLOW = ["(a+)+$", "(a|a)*$", "(a|aa)+$", "([a-z]+)*\\d", "(.*a){12}$", "^(\\w+\\s?)*$"]


@pytest.mark.parametrize("pattern", SLOW)
def test_patterns_that_hang_others_are_quick(pattern: str) -> None:
    text = json.dumps({"a" * 5_000 + "!": "a" * 30_000 + "!"})
    values = {"additionalProperties": {"pattern": pattern}}
    keys = {"patternProperties": {pattern: True}, "additionalProperties": {"type": "string"}}
    for schema in (values, keys):
        assert seconds(built("json_schema", schema=schema), text) < 1.5


# work

ENDLESS = [
    {"$ref": "#"},
    {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    {
        "$ref": "#/$defs/n0",
        "$defs": {
            f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n + 1}"}, {"$ref": f"#/$defs/n{n + 1}"}]}
            for n in range(30)
        }
        | {"n30": {}},
    },
]


@pytest.mark.parametrize("schema", ENDLESS)
def test_it_says_when_a_schema_is_too_much_work(schema: dict[str, Any]) -> None:
    assert built("json_schema", schema=schema)(Subject("{}")).failed == "too_much_work"


def test_a_schema_that_refers_to_itself_is_fine() -> None:
    schema = {"type": "object", "additionalProperties": {"$ref": "#"}}
    assert score(schema, '{"a": {"b": {}}}') == 0
    assert score(schema, '{"a": {"b": 1}}') == 1


def test_many_different_items_are_compared_quickly() -> None:
    text = json.dumps([{"n": number} for number in range(5_000)])
    evaluate = built("json_schema", schema={"uniqueItems": True})
    assert evaluate(Subject(text)).score == 0
    assert seconds(evaluate, text) < 1.0


@pytest.mark.parametrize("repeated", ["[", '{"a":', '"', "[1,", "\\", "9"])
def test_the_largest_text_is_parsed_quickly(repeated: str) -> None:
    assert seconds(built("json_schema", schema={"type": "object"}), filled(repeated)) < 0.6


# as the library would say

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.just(1.0) | st.text("ab", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abx", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)
SCHEMAS = st.fixed_dictionaries(
    {},
    optional={
        "uniqueItems": st.booleans(),
        "pattern": st.sampled_from(["^a", "b$", "a.b"]),
        "patternProperties": st.fixed_dictionaries(
            {}, optional={"^a": st.just({"type": "integer"}), "x$": st.just({"type": "string"})}
        ),
        "additionalProperties": st.sampled_from([True, False, {"type": "array"}]),
        "properties": st.just({"a": {"type": "integer"}}),
        "items": st.just({"$ref": "#"}),
    },
)


@given(schema=SCHEMAS, value=VALUES)
@settings(max_examples=300, deadline=None)
def test_it_says_what_the_library_says(schema: dict[str, Any], value: Any) -> None:
    theirs = jsonschema.Draft202012Validator(schema).is_valid(value)
    begin_work()
    assert (Schema(schema).problem_of(value) == "") == theirs


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"anyOf": [{"const": n} for n in range(300)]}}, [299] * 300),
        ({"items": {"anyOf": [{"type": "string"}, {"const": 2}, {"const": 1}]}}, [1] * 20_000),
    ],
)
def test_any_keyword_counts_as_work(schema: dict[str, Any], value: Any) -> None:
    assert built("json_schema", schema=schema)(Subject(json.dumps(value))).failed == "too_much_work"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"dose": 2}, ""),
        ('{"dose": 2}', ""),
        ({"dose": "two"}, "JSON, but not valid by /properties/dose/type"),
        (None, "JSON, but not valid by /required"),
        ("two", "arguments that are no JSON object"),
        ('"{\\"dose\\": 2}"', "arguments that are no JSON object"),
    ],
)
def test_of_a_call_it_looks_at_the_arguments(arguments: Any, reason: str) -> None:
    schema = {"required": ["dose"], "properties": {"dose": {"type": "number"}}}
    check = built("json_schema", schema=schema)
    calls = (Call("rest", {"dose": 1}), Call.read("give", arguments))
    said = check(Subject("give {}", calls=calls))
    assert said.score == bool(reason)
    assert said.reason.startswith(reason)


@pytest.mark.parametrize(
    ("said", "found"), [("", False), ('{"dose": 1}', False), ("two", True), ('{"dose": "a"}', True)]
)
def test_what_is_said_beside_a_call_is_looked_at_as_well(said: str, found: bool) -> None:
    check = built("json_schema", schema={"properties": {"dose": {"type": "number"}}})
    call = {"name": "give", "arguments": {"dose": 2}}
    (subject,) = subjects_of({"messages": [{"content": said, "calls": [call]}]})
    assert bool(check(subject).score) is found
    again = Subject.known(subject.text, subject.facts)
    assert bool(check(again).score) is found


def test_the_calls_of_a_text_share_the_work_that_may_be_done_for_it() -> None:
    check = built("json_schema", schema={"allOf": [{"type": "object"}] * 300})
    assert check(Subject("", calls=(Call("a", {}),))).failed == ""
    assert check(Subject("", calls=(Call("a", {}),) * 200)).failed == "too_much_work"
