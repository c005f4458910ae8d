"""Length: code points and words, and what is too much."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Subject
from tests.guardrails.checks.looking import built, marked, refused


@pytest.mark.parametrize(("text", "found"), [("ab", 1), ("abc", 0), ("abcde", 0), ("abcdef", 1)])
def test_it_finds_what_is_shorter_or_longer(text: str, found: int) -> None:
    assert built("length", fewest=3, most=5)(Subject(text)).score == found


def test_it_counts_code_points() -> None:
    assert built("length", most=2)(Subject("😀é")).score == 0


def test_it_marks_what_is_too_much() -> None:
    assert marked(built("length", most=3), "abcdef") == ["def"]


def test_it_marks_from_the_first_word_too_many() -> None:
    assert marked(built("length", most_words=2), " one  two three four ") == ["three four "]


def test_it_says_how_long_the_text_is() -> None:
    said = built("length", most=1_000, most_words=1)(Subject("word " * 1_000)).reason
    assert said == "5,000 characters, more than 1,000; 1,000 words, more than 1"


def test_zero_is_no_limit() -> None:
    assert built("length", most_words=3)(Subject("a" * 10_000)).score == 0


def test_it_wants_a_limit() -> None:
    assert refused("length") == "/most"


def test_it_wants_limits_that_a_text_can_keep() -> None:
    assert refused("length", fewest=5, most=4) == "/fewest"


@given(text=st.text(max_size=50), most=st.integers(1, 20))
def test_what_is_left_when_the_rest_is_cut_out_is_no_longer_found(text: str, most: int) -> None:
    evaluate = built("length", most_words=most)
    spans = evaluate(Subject(text)).spans
    left = text[: spans[0][0]] if spans else text
    assert evaluate(Subject(left)).score == 0
    assert len(left.split()) == min(most, len(text.split()))
