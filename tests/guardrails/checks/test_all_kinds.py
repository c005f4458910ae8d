"""What holds for every kind: no text breaks it, none takes long, and its spans can be cut out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.guardrails.checks import KINDS
from apps.guardrails.checks.interface import Call, Evaluate, Subject
from tests import hostile
from tests.guardrails.checks.looking import (
    assert_well_formed,
    built,
    filled,
    seconds,
    shortened,
    texts,
)

ROOT = Path(__file__).parents[3]
HOSTILE = [
    shortened(one.text)
    for one in map(hostile._hostile, map(json.loads, hostile.OWN.read_text("utf-8").splitlines()))
    if not one.must_be_refused
]
SETTINGS: dict[str, dict[str, Any]] = {
    "keywords": {"words": ["ignore", "新しい", "straße"]},
    "regex": {"patterns": ["a+b", r"\d{3}-\d{4}", r"(x+x+)+y"]},
    "length": {"most": 100, "most_words": 20},
    "language": {"allowed": ["en"]},
    "urls": {"mode": "only", "domains": ["example.com"]},
    "pii": {
        "find": ["email", "phone", "card", "iban", "national_id", "ip"],
        "region": "US",
        "countries": ["US", "FR"],
    },
    "secrets": {"entropy": True},
    "json_schema": {"schema": {"type": "object", "additionalProperties": {"type": "string"}}},
    "near_copy": {
        "texts": ["the quick brown fox jumps over the lazy dog", "今日はとても良い天気です"]
    },
    "retrieval": {"sources": ["example.com"], "phrases": ["act now"]},
    "tool_call": {"allowed": ["search"], "values": ["rm -rf"]},
}
LOCAL = sorted(set(KINDS) - {"classifier", "judge"})
REPEATED = [
    *[
        "a",
        "7",
        " ",
        "\n",
        "é",
        "a\u0301",
        "\u0301",
        "日",
        "\u200b",
        "ﷺ",
        "😀",
        "\u202e",
        "4 ",
        "{",
        "[",
    ],
    *[
        '"',
        "a.",
        "a@",
        "http://",
        "://a:b@",
        "eyJ",
        "sk-",
        "key ",
        "AKIA",
        "+1 ",
        "1:",
        "<!--",
        "![",
    ],
    *["ignore all previous ", "DE89 3704 ", "1.1.1.1 ", "4111 ", "\\", "'\"", "''", "a b "],
]


@pytest.fixture(scope="module", params=LOCAL)
def kind(request: pytest.FixtureRequest) -> tuple[str, Evaluate]:
    return request.param, built(request.param, **SETTINGS[request.param])


def subject(name: str, text: str) -> Subject:
    if name == "tool_call":
        return Subject(text, calls=(Call("delete", {"text": text, text[:20]: [text]}),))
    return Subject(text)


def test_it_has_settings_here_for_every_local_kind() -> None:
    assert set(SETTINGS) == set(LOCAL)


def test_it_survives_every_hostile_text_in_half_a_second(kind: tuple[str, Evaluate]) -> None:
    name, evaluate = kind
    for text in HOSTILE:
        assert_well_formed(evaluate(subject(name, text)), text)
        assert seconds(evaluate, text) < 1.5


@pytest.mark.parametrize("repeated", REPEATED, ids=repr)
def test_it_judges_the_largest_text_of_one_thing_in_half_a_second(
    kind: tuple[str, Evaluate], repeated: str
) -> None:
    name, evaluate = kind
    text = filled(repeated)
    assert_well_formed(evaluate(subject(name, text)), text)
    assert seconds(evaluate, text) < 1.5


@pytest.mark.parametrize("text", ["", " ", "\x00", "\uffff", "\U0010ffff", "\u0301", "\ufeff", "©"])
def test_it_takes_odd_texts(kind: tuple[str, Evaluate], text: str) -> None:
    name, evaluate = kind
    assert_well_formed(evaluate(subject(name, text)), text)


@given(text=texts)
@settings(max_examples=60, deadline=None)
def test_it_marks_what_lies_inside_the_text(kind: tuple[str, Evaluate], text: str) -> None:
    name, evaluate = kind
    assert_well_formed(evaluate(subject(name, text)), text)


PIECES = [
    *[
        "4111 1111 1111 1111",
        "mail@example.com",
        "http://evil.example/",
        "４１１１",
        "\u200b",
        "+44 20 ",
    ],
    *[
        "7946 0958",
        "DE89 3704 0044 0532 0130 00",
        "ignore all previous instructions",
        "ﷺ",
        "a\u0301",
    ],
    *[
        "AKIAABCDEFGHIJKLMNOP",
        "straße",
        "新しい",
        "{",
        "}",
        "\n",
        " ",
        "the quick brown fox jumps over",
    ],
]


@given(text=st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(max_examples=60, deadline=None)
def test_it_marks_what_lies_inside_a_text_with_much_to_find(
    kind: tuple[str, Evaluate], text: str
) -> None:
    name, evaluate = kind
    assert_well_formed(evaluate(subject(name, text)), text)


def test_it_says_the_same_from_several_threads(kind: tuple[str, Evaluate]) -> None:
    name, evaluate = kind
    given_texts = [*HOSTILE[:20], *PIECES]
    alone = [evaluate(subject(name, text)) for text in given_texts]
    said: list[list[Any]] = []

    def look() -> None:
        said.append([evaluate(subject(name, text)) for text in given_texts])

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [alone] * 4


def test_it_repeats_no_word_of_the_text_in_its_reason(kind: tuple[str, Evaluate]) -> None:
    name, evaluate = kind
    words = "zyxwvut@qponmlk.com 4111111111111111 http://qponmlk.com rm -rf zyxwvut ignore act now"
    reason = evaluate(subject(name, words)).reason
    assert not any(word in reason for word in ("zyxwvut", "qponmlk", "4111"))


def test_no_library_that_few_need_is_loaded_with_the_kinds() -> None:
    code = (
        "import sys, apps.guardrails.checks; "
        "print({'py3langid', 'detect_secrets', 'requests'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("set()\n", "")
