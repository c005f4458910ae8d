"""Hidden characters are shown as codes, and nothing of a text is lost by it."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as some

from apps.base.samples import Piece, pieces
from apps.base.templatetags.parapet import sample
from tests.hostile import texts


def joined(found: list[Piece]) -> str:
    return "".join(chr(int(p.text[2:], 16)) if p.is_code else p.text for p in found)


hostile = some.text(
    some.sampled_from("a <>&\"'\u202e\u2066\u200b\u200d\ufeff\U000e0041\x00\x07\r\n\t\u2028\u0085")
    | some.characters(exclude_categories=["Cs"])
)


@given(hostile)
def test_pieces_join_to_the_text(text: str) -> None:
    assert joined(pieces(text)) == text


@given(hostile)
def test_only_hidden_characters_become_codes(text: str) -> None:
    for piece in pieces(text):
        if piece.is_code:
            assert unicodedata.category(chr(int(piece.text[2:], 16))) in (
                "Cc",
                "Cf",
                "Zl",
                "Zp",
                "Cn",
            )


@pytest.mark.parametrize(
    "character",
    [
        *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
        "\u200b", "\u200c", "\u200e", "\u200f", "\u061c", "\u00ad", "\u2060", "\ufeff", "\u180e",
        "\u2028", "\u2029", "\x00", "\x07", "\x1b", "\r", "\x7f", "\x85", "\x9b", "\U000e0001",
        "\U000e007f", "\U000e0041", "\ufffb",
    ],
)  # fmt: skip
def test_a_character_that_hides_or_reorders_is_shown_as_its_code(character: str) -> None:
    assert pieces(f"a{character}b") == [
        Piece("a"),
        Piece(f"U+{ord(character):04X}", is_code=True),
        Piece("b"),
    ]


@pytest.mark.parametrize(
    "text", ["plain", "two\nlines\tand a tab", "é ü ß", "\U0001f600", "\u0660"]
)
def test_what_can_be_seen_stays_as_it_is(text: str) -> None:
    assert pieces(text) == [Piece(text)]


def test_a_joined_emoji_stays_one_emoji() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert pieces(family) == [Piece(family)]


def test_the_box_shows_20_kb_and_says_how_much_is_left() -> None:
    shown = sample("x" * 25_000, more_url="/whole/")
    assert sum(len(piece.text) for piece in shown["pieces"]) == 20_000
    assert shown["more"] == 5_000


@pytest.mark.parametrize("row", texts(), ids=lambda row: row.id)
def test_every_hostile_text_is_reversible(row: object) -> None:
    text = row.text  # type: ignore[attr-defined]
    assert joined(pieces(text)) == text
