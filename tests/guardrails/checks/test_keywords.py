"""Keywords: words and phrases, in every form that looks like them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.guardrails.checks.interface import Subject
from apps.guardrails.checks.normalising import fold
from tests.guardrails.checks.looking import built, filled, marked, refused, seconds


@pytest.mark.parametrize(
    ("word", "text"),
    [
        *[
            ("bomb", "bomb"),
            ("bomb", "BOMB"),
            ("BOMB", "bomb"),
            ("bomb", "ｂｏｍｂ"),
            ("bomb", "𝐛𝐨𝐦𝐛"),
        ],
        *[("bomb", "b\u200bo\u200dm\u2060b"), ("bomb", "bo\u00admb"), ("bomb", "b\ufe0fomb")],
        *[("straße", "STRASSE"), ("STRASSE", "straße"), ("ΣΊΣΥΦΟΣ", "σίσυφος"), ("file", "ﬁle")],
        *[
            ("café", "cafe\u0301"),
            ("cafe\u0301", "café"),
            ("한국", "\u1112\u1161\u11ab국"),
            ("キロ", "㌔"),
        ],
        *[
            ("make a bomb", "make\n a\tbomb"),
            ("make a bomb", "make a\u00a0bomb"),
            ("c++", "C++"),
            ("a.b", "a.b"),
        ],
        *[("新しい", "新しい"), ("ДОМ", "дом"), ("'", "'")],
    ],
)
def test_it_finds_a_word_however_it_is_written(word: str, text: str) -> None:
    assert marked(built("keywords", words=[word]), f"so ({text}) it is") == [text]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        *[
            ("bomb", "bombs"),
            ("bomb", "abomb"),
            ("bomb", "bomb_x"),
            ("bomb", "bomb2"),
            ("bomb", "ébomb"),
        ],
        *[
            ("bomb", "bombé"),
            ("a.b", "axb"),
            ("make bomb", "makebomb"),
            ("дом", "домой"),
            ("cafe", "cafe\u0301"),
        ],
    ],
)
def test_a_part_of_a_word_is_not_the_word(word: str, text: str) -> None:
    assert built("keywords", words=[word])(Subject(text)).score == 0


def test_parts_of_words_are_found_when_that_is_wanted() -> None:
    assert marked(built("keywords", words=["bomb"], whole_words=False), "abombs") == ["bomb"]


def test_case_counts_when_that_is_wanted() -> None:
    evaluate = built("keywords", words=["Bomb"], ignore_case=False)
    assert marked(evaluate, "bomb Bomb BOMB Ｂｏｍｂ") == ["Bomb", "Ｂｏｍｂ"]


def test_words_beside_each_other_are_all_found() -> None:
    found = built("keywords", words=["a", "b"])(Subject("a b a"))
    assert found.spans == ((0, 1), (2, 3), (4, 5))


def test_the_longer_of_two_words_is_found() -> None:
    evaluate = built("keywords", words=["new", "new york"], whole_words=False)
    assert marked(evaluate, "in new york") == ["new york"]


def test_a_word_is_no_pattern() -> None:
    assert built("keywords", words=["a.c", "(x)", "[y]"])(Subject("abc x y")).score == 0


def test_it_says_how_many() -> None:
    assert built("keywords", words=["a", "b"])(Subject("a b")).reason == "2 listed words or phrases"


def test_it_looks_for_a_thousand_words_quickly() -> None:
    words = [f"word{number}x" for number in range(1_000)]
    evaluate = built("keywords", words=words)
    assert marked(evaluate, "so word999x") == ["word999x"]
    assert seconds(evaluate, filled("some text of other words word7 ")) < 4


@pytest.mark.parametrize("words", [[], ["", "  "]])
def test_it_wants_a_word(words: list[str]) -> None:
    assert refused("keywords", words=words) == "/words"


WORD = st.text(st.characters(categories=["Ll", "Lu", "Lo", "Nd"]), min_size=1, max_size=8)


@given(
    word=WORD, before=st.text(" .,é日\u200b\u0301", max_size=5), after=st.text(" .,\n", max_size=5)
)
def test_a_listed_word_between_others_is_always_found(word: str, before: str, after: str) -> None:
    if not fold(word):
        return  # nothing that can be seen
    evaluate = built("keywords", words=[word], whole_words=False)
    assert evaluate(Subject(before + " " + word + after)).score == 1


@pytest.mark.parametrize("unseen", ["\ufeff", "\u200b", " \u2060 "])
@pytest.mark.parametrize("whole_words", [True, False])
def test_a_line_of_which_nothing_can_be_seen_is_no_word(unseen: str, whole_words: bool) -> None:
    evaluate = built("keywords", words=[unseen, "bomb"], whole_words=whole_words)
    assert marked(evaluate, "A quiet, harmless text. Yes.") == []
    assert refused("keywords", words=[unseen]) == "/words"


@pytest.mark.parametrize(("kind", "field"), [("keywords", "words"), ("retrieval", "phrases")])
def test_a_line_that_is_too_long_is_named(kind: str, field: str) -> None:
    assert refused(kind, **{field: ["." * 600]}) == f"/{field}"
