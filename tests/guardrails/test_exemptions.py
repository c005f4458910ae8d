"""What an exception lets through, and which one a page offers."""

from __future__ import annotations

import pytest

from apps.guardrails.exemptions import (
    Exemption,
    blanked,
    lets_through,
    phrase_of,
    suggested,
    text_hash,
)


@pytest.mark.parametrize(
    ("text", "spans", "phrase"),
    [
        ("Take two tablets tonight.", [[5, 16]], "two tablets"),
        ("Take TWO\u00a0tablets tonight.", [[5, 16]], "TWO\u00a0tablets"),
        ("\U0001f600 write to a@b.example", [[11, 22]], "a@b.example"),
        # nothing that one phrase could answer
        ("one and two", [[0, 3], [8, 11]], ""),
        ("no place was told", [], ""),
        ("two\ntablets", [[0, 11]], ""),
        # a phrase is whole words, so it would not be found here
        ("untwoed", [[2, 5]], ""),
        ("!? \u200b", [[0, 4]], ""),
        ("x" * 1_001, [[0, 1_001]], ""),
    ],
)
def test_a_phrase_is_offered_where_it_would_answer(
    text: str, spans: list[list[int]], phrase: str
) -> None:
    assert suggested(text, spans) == phrase


def test_what_is_offered_blanks_what_was_found() -> None:
    text, span = "Take two tablets tonight.", [5, 16]
    phrase = phrase_of(suggested(text, [span]))
    assert blanked([Exemption("1", "", 0.0, phrase)], text) == "Take             tonight."


def test_a_whole_text_is_the_same_with_either_line_breaks() -> None:
    exempt = Exemption("1", "", 0.0, text_hash=text_hash(b"key", "one\ntwo"))
    assert lets_through([exempt], b"key", "one\r\ntwo")
    assert not lets_through([exempt], b"key", "one\n\ntwo")
