"""Normal forms: what they resolve, and the way back to the text as received."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.guardrails.checks.normalising import MAXIMUM_EXPANSION, Form, fold, folded, plain
from tests.guardrails.checks.looking import filled, texts


def form_of(text: str) -> Form:
    form = folded(text)
    assert form is not None
    return form


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        *[
            ("ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
            ("１２３", "123"),
            ("ﬁn", "fin"),
            ("²", "2"),
            ("…", "..."),
        ],
        *[
            ("a\u200bb\u200cc\u200dd", "abcd"),
            ("a\u00adb", "ab"),
            ("a\u2060b\ufeffc", "abc"),
            ("x\ufe0f", "x"),
        ],
        *[
            ("a\u202eb\u2066c", "abc"),
            ("h\U000e0069i", "hi"),
            ("e\u0301", "é"),
            ("ㅤa", "a"),
            ("ｶﾞ", "ガ"),
        ],
        *[
            ("a\x01b\x7fc", "abc"),
            ("a\ufff9b\U0001d173c\U0001bca0d", "abcd"),
            ("cafe\u200b\u0301", "café"),
            ("\u1103\u200b\u116e", "두"),
            ("b\u0336o\u0332m\u20e3b", "bomb"),
            ("б\u0336о\u0301", "бо"),
            ("n\u0303\u0336", "ñ"),
            ("b" + "\u0336" * 40 + "omb", "bomb"),
            ("b" + "\u20e3" * 40 + "omb", "bomb"),
        ],
    ],
)
def test_disguises_are_resolved(text: str, normal: str) -> None:
    form = plain(text)
    assert form is not None
    assert form.text == normal


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("É", "é"),
        ("ß", "ss"),
        ("ΣΑΣ", "σασ"),
        ("Ⅷ", "viii"),
        ("İ", "i"),
        ("ＡＢ", "ab"),
        ("ſ", "s"),
        ("Ꭰ", "Ꭰ"),
    ],
)
def test_case_is_folded(text: str, normal: str) -> None:
    assert fold(text) == unicodedata.normalize("NFKC", normal)


@pytest.mark.parametrize("text", ["", "ascii", "UPPER", "a\tb\n", "a\x1cb\x0b"])
def test_ascii_has_no_other_form(text: str) -> None:
    assert plain(text) is None
    assert folded(text) is None


@pytest.mark.parametrize("text", ["é", "日本", "ß", "한", "ที่", "क़्", "שָׁלוֹם", "مُحَمَّد"])
def test_a_normal_text_has_no_other_plain_form(text: str) -> None:
    assert plain(text) is None


@pytest.mark.parametrize(
    ("text", "word", "span"),
    [
        ("xx ｂｏｍｂ yy", "bomb", (3, 7)),
        ("xx b\u200bo\u200bm\u200bb yy", "bomb", (3, 10)),
        ("\u200b\u200bbomb", "bomb", (2, 6)),
        ("bomb\u200b\u200b ﬁ", "bomb", (0, 6)),
        ("ﬁle", "file", (0, 3)),
        ("ﬁle", "i", (0, 1)),
        ("a㌔b", "キロ", (1, 2)),
        ("cafe\u0301 x", "café", (0, 5)),
        ("STRAẞE", "strasse", (0, 6)),
        ("é😀ｘ", "x", (2, 3)),
    ],
)
def test_a_place_leads_back_to_what_it_came_from(
    text: str, word: str, span: tuple[int, int]
) -> None:
    form = form_of(text)
    at = form.text.index(word)
    assert form.back(at, at + len(word)) == span


def test_a_place_of_nothing_leads_back_to_a_place_of_nothing() -> None:
    form = form_of("ａｂ")
    assert [form.back(at, at) for at in range(3)] == [(0, 0), (1, 1), (2, 2)]


@given(text=texts)
def test_every_character_comes_from_a_place_in_the_text(text: str) -> None:
    for form in (plain(text), folded(text)):
        if form is not None:
            assert len(form.origin) == len(form.text)
            assert list(form.origin) == sorted(form.origin)
            assert all(0 <= at < len(text) for at in form.origin)
            assert form.encoded.decode() == form.text


@given(text=texts, data=st.data())
def test_spans_lead_back_inside_the_text_in_order(text: str, data: st.DataObject) -> None:
    form = folded(text)
    if form is None:
        return
    places = st.integers(0, len(form.text))
    first, second = sorted((data.draw(places), data.draw(places)))
    start, end = form.back(first, second)
    assert 0 <= start <= end <= len(text)
    if first < second:
        assert start < end
        assert form.back(0, second)[0] <= start
        assert form.back(0, second)[1] == end


@given(text=st.text("abcé ｘｙ１日\u200b\u00adﬁ", max_size=60))
def test_what_a_span_leads_back_to_has_the_same_form(text: str) -> None:
    form = folded(text)
    if form is None:
        return
    for at, character in enumerate(form.text):
        start, end = form.back(at, at + 1)
        assert character in fold(text[start:end])


@given(text=texts)
def test_folding_again_changes_nothing_for_small_letters(text: str) -> None:
    letters = "".join(one for one in text if one.isalpha() and one.islower())
    assert fold(fold(letters)) == fold(letters)


@pytest.mark.parametrize("character", ["ﷺ", "㌖", "\ufdfb", "ΐ", "ﬃ", "㍿", "🄪"])
def test_a_form_grows_by_four_at_most(character: str) -> None:
    for text in (character, character * 1_000):
        assert len(fold(text)) <= MAXIMUM_EXPANSION * len(text)


@given(text=texts)
def test_no_text_grows_by_more(text: str) -> None:
    assert len(fold(text)) <= MAXIMUM_EXPANSION * max(len(text), 1)


@pytest.mark.parametrize("repeated", ["é", "ﷺ", "a\u0301", "\u0301", "\u200b", "\u0f43", "😀"])
def test_a_form_of_the_largest_text_takes_little_time(repeated: str) -> None:
    text = filled(repeated)
    started = time.thread_time()
    folded(text)
    assert time.thread_time() - started < 1.5
