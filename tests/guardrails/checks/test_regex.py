"""Regular expressions: RE2's, so that no pattern and no text takes long."""

from __future__ import annotations

import random
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.base.problems import Problem
from apps.guardrails.checks.interface import Subject
from apps.guardrails.checks.matching import TooMuchWork, worst_seconds
from tests.guardrails.checks.looking import built, filled, marked, refused, seconds
from tests.hostile import attacks

# each takes Python's `re` exponential or at least cubic time on its text
HANGING = [
    (r"(a+)+b", "a"),
    (r"(a|a)*b", "a"),
    (r"(a|aa)+$", "a"),
    (r"(a*)*b", "a"),
    (r"(x+x+)+y", "x"),
    (r"([a-zA-Z]+)*\d", "q"),
    (r"^(\w+\s?)+!$", "word "),
    (r"(.*)(.*)(.*)(.*)(.*)z", "a"),
    (r"(\s*\n\s*)+x", " \n"),
    (r"<(\"[^\"]*\"|'[^']*'|[^'\">])*>", '<"'),
    (r"(\d+\.?)+,", "1."),
    (r"((ab)*c?)*d", "ab"),
    (r"(?:a?){50}a{50}b", "a"),
    (r"\s+$", " "),
    (r"(0|1|00|11)*2", "01"),
]


@pytest.mark.parametrize(("pattern", "repeated"), HANGING)
def test_patterns_that_hang_others_are_quick(pattern: str, repeated: str) -> None:
    assert seconds(built("regex", patterns=[pattern]), filled(repeated) + "\u00e9") < 1.5


@pytest.mark.parametrize(("pattern", "repeated"), HANGING)
def test_they_are_quick_together_too(pattern: str, repeated: str) -> None:
    patterns = [one for one, _ in HANGING]
    assert seconds(built("regex", patterns=patterns), filled(repeated)) < 3


@pytest.mark.parametrize(
    "pattern", [r"(?=a)", r"(?!a)b", r"(?<=a)b", r"(?<!a)b", r"(a)\1", "(", "a{2000}", "[z-a]", "*"]
)
def test_it_says_what_re2_does_not_take(pattern: str) -> None:
    assert refused("regex", patterns=["fine", pattern]) == "/patterns"


@pytest.mark.parametrize("pattern", ["", "a*", "(b|)", "^", "$"])
def test_it_wants_patterns_that_match_something(pattern: str) -> None:
    assert refused("regex", patterns=[pattern]) == "/patterns"


def test_it_wants_patterns_of_a_thousand_characters_at_most() -> None:
    assert refused("regex", patterns=["a" * 1_001]) == "/patterns"


def test_it_wants_a_hundred_patterns_at_most() -> None:
    assert refused("regex", patterns=["a"] * 101) == "/patterns"


def test_it_says_which_patterns_match() -> None:
    said = built("regex", patterns=["x", "b+", "c"])(Subject("abbc")).reason
    assert said == "pattern 2, 3 matches"


def test_it_marks_every_match() -> None:
    assert marked(built("regex", patterns=[r"\d+"]), "a 12 b 345") == ["12", "345"]


def test_it_counts_in_code_points() -> None:
    assert marked(built("regex", patterns=["b+"]), "é日😀 bb é b") == ["bb", "b"]


@pytest.mark.parametrize(
    "text", ["SECRET", "Secret", "ＳＥＣＲＥＴ", "se\u200bcret", "s\u00adecret"]
)
def test_it_matches_the_normal_form_too(text: str) -> None:
    assert marked(built("regex", patterns=["secret"]), f"a {text} b") == [text]


def test_case_counts_when_that_is_wanted() -> None:
    evaluate = built("regex", patterns=["secret"], ignore_case=False)
    assert marked(evaluate, "SECRET secret ｓｅｃｒｅｔ") == ["secret", "ｓｅｃｒｅｔ"]


def test_it_matches_the_text_as_received_too() -> None:
    assert marked(built("regex", patterns=[r"a\x{200b}b"]), "a\u200bb ab") == ["a\u200bb"]


def test_an_open_quote_of_one_pattern_does_not_swallow_the_next() -> None:
    assert marked(built("regex", patterns=[r"\Qa.b", "c"]), "c a.b axb") == ["c", "a.b"]


def test_a_flag_of_one_pattern_does_not_reach_the_next() -> None:
    evaluate = built("regex", patterns=["(?i)a", "b"], ignore_case=False)
    assert marked(evaluate, "A B b") == ["A", "b"]


def test_of_very_many_matches_it_marks_all_the_rest() -> None:
    text = "a " * 1_000 + "b"
    assert built("regex", patterns=["a"])(Subject(text)).spans[-1][1] == len(text)


@given(text=st.text("abAB1 é日", max_size=80))
def test_it_finds_what_python_finds(text: str) -> None:
    for pattern in ("a+b", "[ab]1", "(a|b)(1| )", "b.a"):
        theirs = [match.span() for match in re.finditer(pattern, text) if match[0]]
        ours = built("regex", patterns=[pattern], ignore_case=False)(Subject(text)).spans
        assert {at for span in theirs for at in range(*span)} == {
            at for span in ours for at in range(*span)
        }


@pytest.mark.parametrize("row", attacks(), ids=lambda row: row["id"])
def test_every_shared_pattern_is_refused_plainly_or_quick_on_its_attack(row: dict) -> None:
    flags = f"(?{row['flags']})" if row["flags"] else ""
    attack = row["attack"]
    pumped = attack["pump"] * (60_000 // len(attack["pump"]))
    try:
        look = built("regex", patterns=[flags + row["pattern"]])
    except Problem as problem:
        pointers = [error.pointer for error in problem.errors]
    else:
        pointers = []
    if pointers:
        assert pointers == ["/patterns"]
        return
    for text in (attack["prefix"] + attack["pump"] * attack["n"], attack["prefix"] + pumped):
        assert seconds(look, text + attack["suffix"]) < 1.5


@pytest.mark.parametrize("pattern", [r"x.{20}z", r"(?:x.{0,100}){9}z", r"a.{0,100}b.{0,100}c"])
def test_what_is_slow_on_disorder_is_known_to_be(pattern: str) -> None:
    assert worst_seconds([pattern] * 5) > 0.1


@pytest.mark.parametrize(
    "pattern", [r"\b\d{3}-\d{2}-\d{4}\b", r"(?i)\btwo tablets\b", r"[\w.]+@\w+"]
)
def test_what_is_quick_everywhere_is_known_to_be(pattern: str) -> None:
    assert worst_seconds([pattern] * 5) < 0.1


def test_very_slow_ones_give_up_on_a_text() -> None:
    evaluate = built("regex", patterns=[r"(?:x.{0,100}){9}z"] * 20)
    text = "".join(random.Random(1).choices("xq", k=65_536))
    started = time.thread_time()
    with pytest.raises(TooMuchWork):
        evaluate(Subject(text))
    assert time.thread_time() - started < 10
