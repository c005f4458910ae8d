"""Near copies: the same words, most of them, or the same within a longer text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Subject
from tests.guardrails.checks.looking import built, filled, marked, refused, seconds

KNOWN = (
    "The committee will meet on the second Monday of every month to review all open requests, "
    "and its decisions are published within ten working days on the notice board of the hall."
)
JAPANESE = "この文書は社内の秘密情報を含みますので、許可なく外部に公開することを固く禁じます。"
EVALUATE = built("near_copy", texts=[KNOWN, JAPANESE])


@pytest.mark.parametrize(
    "text",
    [
        *[
            KNOWN,
            KNOWN.upper(),
            KNOWN.replace(" ", "\n  "),
            KNOWN.replace(",", "").replace(".", "!"),
        ],
        *[KNOWN.replace("second", "third"), "\u200b".join(KNOWN), KNOWN.replace("e", "é", 0)],
        *["".join(chr(ord(one) + 0xFEE0) if one.isalpha() else one for one in KNOWN)],
        *[
            KNOWN.replace("committee", "commi\u0301ttee\u0323"),
            JAPANESE,
            JAPANESE.replace("、", " "),
        ],
    ],
)
def test_it_finds_a_copy_however_it_is_written(text: str) -> None:
    assert EVALUATE(Subject(text)).reason == "nearly 1 of 2 known texts"


def test_it_finds_a_copy_within_a_longer_text_and_marks_it() -> None:
    text = "Something else entirely. " * 50 + KNOWN + " And then some more." * 50
    assert marked(EVALUATE, text) == [KNOWN[:-1]]


@pytest.mark.parametrize(
    "text",
    [
        *["", "Hello", "The committee will meet on the second Monday", KNOWN[: len(KNOWN) // 2]],
        " ".join(reversed(KNOWN.split())),
        " ".join(sorted(KNOWN.split())),
        "今日はとても良い天気ですので、散歩に出かけましょう。",
    ],
)
def test_it_finds_no_other_text(text: str) -> None:
    assert EVALUATE(Subject(text)).score == 0


@pytest.mark.parametrize(("share", "score"), [(0.5, 1), (0.7, 1), (0.8, 0), (1, 0)])
def test_the_share_is_that_of_runs_of_four_words(share: float, score: int) -> None:
    # ten runs, of which seven are there
    known = "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12 a13"
    text = "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 zz"
    assert built("near_copy", texts=[known], share=share)(Subject(text)).score == score


def test_a_whole_copy_has_a_share_of_one() -> None:
    assert built("near_copy", texts=[KNOWN], share=1)(Subject(f"x {KNOWN} y")).score == 1


def test_it_marks_nothing_but_the_copy_that_is_near() -> None:
    other = "one two three four five six seven eight nine ten"
    evaluate = built("near_copy", texts=[KNOWN, other])
    assert marked(evaluate, f"{KNOWN[:60]} ... {other}") == [other]


@pytest.mark.parametrize("text", ["too few words", "one-two three", "短い文", "!!! ??? ... ---"])
def test_it_wants_texts_of_four_words(text: str) -> None:
    assert refused("near_copy", texts=[KNOWN, text]) == "/texts"


@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_it_wants_a_text(texts: list[str]) -> None:
    assert refused("near_copy", texts=texts) == "/texts"


WORDS = st.lists(st.text("abcdeé日", min_size=1, max_size=4), min_size=4, max_size=20).map(" ".join)


@given(known=WORDS, before=WORDS, after=WORDS)
def test_a_known_text_between_others_is_always_found(known: str, before: str, after: str) -> None:
    evaluate = built("near_copy", texts=[known], share=1)
    text = f"{before}\n{known}\n{after}"
    start, end = len(before) + 1, len(before) + 1 + len(known)
    spans = evaluate(Subject(text)).spans
    assert any(first <= start and end <= last for first, last in spans)


def test_a_thousand_known_texts_are_looked_for_quickly() -> None:
    texts = [f"{KNOWN} number {number} of the {number} series" for number in range(1_000)]
    evaluate = built("near_copy", texts=texts)
    assert seconds(evaluate, filled(KNOWN + " ")) < 1.0
