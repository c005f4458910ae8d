"""Several models at once, and long texts piece by piece."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from apps.guardrails.learning import artifact, features
from apps.guardrails.learning.artifact import ALL_PIECES
from apps.guardrails.learning.panel import (
    LINE,
    LONG,
    PARAGRAPH,
    STEP,
    WINDOW,
    Panel,
    median_and_spread,
    together,
    whole_and_pieces,
)

WORDS = ["sea", "walk", "bread", "stone", "river", "light", "paper", "table", "winter", "green"]


def pieces(text: str) -> list[str]:
    return whole_and_pieces(text)[1:]


def model(seed: int) -> artifact.Model:
    chance = np.random.default_rng(seed)
    return artifact.Model(
        idf=chance.uniform(0, 8, features.COLUMNS).astype(np.float32),
        weights=chance.normal(0, 1, features.COLUMNS).astype(np.float32),
        intercept=-0.3,
        slope=1.2,
        offset=0.1,
        threshold=0.5,
    )


def text(seed: int, length: int) -> str:
    chance = np.random.default_rng(seed)
    return " ".join(chance.choice(WORDS, length))[:length]


def test_scores_are_those_of_each_model_alone() -> None:
    models = {str(seed): model(seed) for seed in range(4)}
    texts = ["", "one word", text(1, 900), "日本語のテキスト"]
    counts = features.extract(texts)
    alone = np.column_stack([artifact.score(one, counts) for one in models.values()])
    assert Panel(models).score(texts) == pytest.approx(alone, abs=1e-6)


def test_no_score_reaches_what_flags_nothing() -> None:
    panel = Panel(
        {"sure": replace(model(1), offset=1e3), "against": replace(model(1), offset=-1e3)}
    )
    sure, against = panel.score(["one word"])[0]
    assert 0 < against < sure < 1


def test_a_text_is_scored_the_same_whatever_other_texts_there_are() -> None:
    panel = Panel({"a": model(1)})
    texts = [text(seed, 200 + 3000 * seed) for seed in range(4)]
    together = panel.score(texts)
    assert [panel.score([one])[0, 0] for one in texts] == together[:, 0].tolist()


@pytest.mark.parametrize("length", [LONG, LONG + 1, LONG + WINDOW // 2, 65_536])
def test_pieces_cover_all_of_a_long_text(length: int) -> None:
    letters = "".join(chr(0x20000 + n) for n in range(length))
    covered = set()
    for piece in pieces(letters):
        covered.update(range(letters.index(piece), letters.index(piece) + len(piece)))
    assert covered == set(range(length))


def test_a_short_text_has_no_pieces() -> None:
    assert pieces("x\n" * (LONG // 2 - 1)) == []


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\u2028", "\n \t\n"])
@pytest.mark.parametrize("place", [0, 70, 140])
def test_a_line_of_a_long_text_is_a_piece(end: str, place: int) -> None:
    lines = [
        f"This is a good line, and it is the one that has the number {number}."
        for number in range(141)
    ]
    lines[place] = "This is the one line of the whole text that nobody should ever have written."
    assert lines[place] in [piece.strip() for piece in pieces(end.join(lines))]


def seen(text: str) -> list[str]:
    """The pieces that are no windows."""
    return [piece for piece in pieces(text) if len(piece) != WINDOW]


GOOD = "This is a good line, and it is one of the many that have got no number.\n"
BAD = "This is the one line of the whole text that nobody should ever have written.\n"


@pytest.mark.parametrize("blank", ["\n", " \t\n", "\r\n"])
def test_a_paragraph_of_several_lines_is_a_piece(blank: str) -> None:
    paragraph = GOOD + BAD + blank
    assert GOOD + BAD + "\n" in seen((GOOD + blank) * 60 + paragraph + GOOD * 60)


def test_lines_without_a_blank_one_between_are_no_paragraphs_of_their_own() -> None:
    text = (GOOD + "\n") * 60 + GOOD + BAD + (GOOD + "\n") * 60
    assert GOOD + BAD not in seen(text)
    assert GOOD + BAD + GOOD + "\n" in seen(text)


def test_a_short_paragraph_goes_with_the_next() -> None:
    assert "So:\n\n" + BAD + "\n" in seen("So:\n\n" + BAD + "\n" + GOOD * 60)


def test_a_short_line_goes_with_the_next() -> None:
    assert "So:\n" + BAD in seen("So:\n" + BAD + GOOD * 60)


def test_a_short_last_line_goes_with_the_one_before() -> None:
    text = GOOD * 60 + BAD + "Bye."
    assert BAD + "Bye." in seen(text)
    assert "Bye." not in seen(text)


def test_white_space_is_no_piece() -> None:
    text = GOOD * 60
    assert pieces(text + "\n" * 10 * LONG) == pieces(text + "\n\n")


@pytest.mark.parametrize("nothing", ["\u200b", "\u0301", "\ufe0f", "\U000e0041"])
def test_what_no_reader_sees_does_not_make_a_text_longer(nothing: str) -> None:
    panel = Panel({"a": model(1)})
    short, long = BAD * 5, BAD * 100
    for each in (short, long):
        drawn_out = (nothing * 37).join(each)
        assert panel.score([drawn_out])[0, 0] == panel.score([each])[0, 0]


def test_a_text_is_no_longer_for_the_space_between_its_words() -> None:
    panel = Panel({"a": model(1)})
    words = BAD.split()
    assert panel.score([(" " * 400).join(words)]) == panel.score([" ".join(words)])


def test_a_text_has_no_more_pieces_than_room_for_them() -> None:
    for part in ("a\n", "a\n\n", "a" * (LINE - 1) + "\n", "a" * (PARAGRAPH - 2) + "\n\n"):
        text = part * (4 * LONG // len(part))
        most = len(text) / PARAGRAPH + len(text) / LINE + len(text) / STEP + 1
        assert LONG / LINE < len(pieces(text)) <= most


def test_a_line_longer_than_two_windows_is_seen_through_windows() -> None:
    assert max(map(len, pieces("a" * LONG + "\n" + "b" * LONG))) == WINDOW


LONG_TEXT = text(2, 2 * LONG)


def margins(one: artifact.Model) -> tuple[float, list[float]]:
    """The log odds of the whole of LONG_TEXT, and of its pieces."""
    each = Panel({"a": one})._margins(features.extract([LONG_TEXT, *pieces(LONG_TEXT)]))
    whole, *parts = each[:, 0].tolist()
    return whole, parts


def log_odds(one: artifact.Model) -> float:
    c = Panel({"a": one}).score([LONG_TEXT])[0, 0]
    return math.log(c / (1 - c))


@pytest.mark.parametrize("exponent", [1.0, 0.4])
def test_a_long_text_has_the_odds_of_its_pieces_shared_out(exponent: float) -> None:
    one = replace(model(1), length_exponent=exponent)
    whole, parts = margins(one)
    combined = math.log(sum(math.exp(2 * margin) for margin in parts)) / 2
    price = exponent * math.log(1 + len(parts))
    assert log_odds(one) == pytest.approx(max(whole, combined) - price)


def test_the_whole_alone_stops_a_long_text_too() -> None:
    panel = Panel({"a": replace(model(1), length_exponent=1.0, length_top=1000.0)})
    whole, none = np.array([[9.0], [-9.0], [-9.0]]), np.array([[-9.0]] * 3)
    assert panel._long(whole, LONG) == pytest.approx(9 - math.log(3)), "in full, easy as it is"
    assert panel._long(none, LONG) < 0


@pytest.mark.parametrize(("pieces", "paid_for"), [(ALL_PIECES, 91), (200.0, 80), (2.0, 1)])
def test_a_text_in_more_pieces_than_labelled_ones_pays_for_as_many_as_they_have(
    pieces: float, paid_for: int
) -> None:
    panel = Panel({"a": replace(model(1), length_pieces=pieces)})
    margins = np.array([[5.0], [6.0], *[[-9.0]] * 89])
    assert panel._long(margins, LONG) == pytest.approx(6 - math.log(paid_for), abs=1e-6)


def test_a_long_text_pays_for_what_a_good_one_like_it_would_lie_above_single_ones() -> None:
    one = replace(model(1), length_exponent=1.0, length_pieces=70.0)
    _, parts = margins(one)
    ordered = sorted(parts)
    median, high = (ordered[int(share * (len(parts) - 1))] for share in (0.5, 0.9))
    paid_for = min(1 + len(parts), 70 * len(LONG_TEXT) / 10_000)
    reach = 2 * math.sqrt(math.log(paid_for) / math.log(70))
    alike = median + reach * (high - median)
    in_full = log_odds(one)

    def pays(above: float) -> float:
        """The price where a good text like it lies so far above single ones."""
        return (
            in_full
            + math.log(paid_for)
            - log_odds(replace(one, length_reach=2.0, length_top=alike - above))
        )

    assert pays(1) == pytest.approx(1)
    assert pays(-1000) == pytest.approx(0), "never less than nothing"
    assert pays(1000) == pytest.approx(math.log(paid_for)), "never more than in full"


def test_one_violation_in_few_pieces_does_not_tell_how_far_they_spread() -> None:
    margins = np.full((10, 1), -3.0)
    _, good = median_and_spread(margins)
    margins[[2, 3]] = 4.0
    _, bad = median_and_spread(margins)
    assert (good, bad) == (0, 0)


def test_one_piece_among_many_counts_as_itself_and_many_alike_count_for_more() -> None:
    one, many = np.full((100, 1), -9.0), np.full((100, 1), 2.0)
    one[7] = 2.0
    assert together(one) == pytest.approx(2, abs=1e-6)
    assert together(many) == pytest.approx(2 + math.log(100) / 2)
    assert np.isfinite(together(np.array([[1e6], [-1e6]]))).all()
