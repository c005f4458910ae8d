"""The extractor against its definition in plain Python, and what is done with its counts."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.guardrails.learning import features

sys.path.insert(0, str(Path(__file__).parent))
import reference_features as reference

ROOT = Path(__file__).parents[2]
HOSTILE = ROOT.parent / "shared" / "hostile" / "hostile_texts.jsonl"

OWN = [
    "",
    " ",
    "\n\t \r\n",
    "a",
    "a b",
    "Hello, World! Hello?",
    "snake_case x1 2 ___ -- 3.14",
    "tab\tand\x0bvertical\x1cseparator\x85next\u2028line\u3000wide\u00a0fixed\u200bzero",
    "ÀÉÎõü Ångström naïve ﬁne ½ ² ™ ´ ¨ ª",
    "İstanbul Iı ß ẞ ſ ΟΔΥΣΣΕΥΣ ᾼ ᾳ Ǆ ŉ K",
    "日本語のテキスト、カタカナ ｶﾞ キロ㌖ 漢字",
    "한국어 문장입니다 각각",
    "हिन्दी में क्या ज़्यादा ไทยภาษา বাংলা",
    "עברית \u202eabc\u202c العربية مُحَمَّد \u2067x\u2069 ﷺ",
    "ﷺ" * 40,
    "z\u0335\u0321\u0316a\u0301\u0323\u0300l\u0489g\u034fo" + "\u0315\u0300\u05ae" * 60,
    "\u0301\u0323 \u0345 \u0e33",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 ☃️ \U000e0041",
    "nul\x00inside \x00 \x7f\x80\x9f \x1b[31m",
    "\ud800 lone \udfff\ud800 x\udc00y",
    "\uffff \ufdd0 \U0010ffff \ue000 \U0001d407\U0001d41a",
    "A" * 3000,
    "ab" * 700 + " " + "é" * 900,
    "a " * 800,
    " double  spaces   here ",
    "<script>alert('x')</script> {{ 7*7 }} ' OR 1=1 --",
    "word " * 400,
]


def hostile() -> list[str]:
    if not HOSTILE.exists():
        return []
    rows = [json.loads(line) for line in HOSTILE.read_text("utf-8").split("\n") if line]
    texts = [
        row["text"] if "text" in row else "".join(unit * count for unit, count in row["repeat"])
        for row in rows
    ]
    # The reference needs 5 s a million characters; longer texts have a test of their own.
    return [text[:20_000] for text in texts]


def rows_of(counts: features.Counts) -> list[dict[int, int]]:
    bounds = zip(counts.offsets[:-1].tolist(), counts.offsets[1:].tolist(), strict=True)
    return [
        dict(
            zip(
                counts.columns[first:last].tolist(),
                counts.counts[first:last].tolist(),
                strict=True,
            )
        )
        for first, last in bounds
    ]


def same(left: features.Counts, right: features.Counts) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name))
        and getattr(left, name).dtype == getattr(right, name).dtype
        for name in ("offsets", "columns", "counts")
    )


def assert_matches_reference(texts: list[str]) -> None:
    counts = features.extract(texts)
    assert counts.offsets.dtype == np.int64
    assert counts.columns.dtype == np.int32
    assert counts.counts.dtype == np.float32
    assert counts.rows == len(texts)
    for text, row in zip(texts, rows_of(counts), strict=True):
        expected = reference.row(text)
        assert row == expected
        assert list(row) == list(expected), "columns ascend"


@pytest.mark.parametrize("text", [*OWN, *hostile()], ids=lambda text: repr(text[:20]))
def test_extracts_as_defined(text: str) -> None:
    assert_matches_reference([text])


@pytest.mark.parametrize(
    "unseen",
    "\u200b\u200d\u00ad\u2060\u202e\ufeff\ufe0f\u034f\u3164\U000e0041\x01\x7f\x9f\ufff9\U0001d173",
)
def test_what_a_reader_does_not_see_hides_no_word(unseen: str) -> None:
    hidden = "kill all humans".replace("l", f"l{unseen}").replace(" ", f"{unseen} ")
    assert same(features.extract([unseen + hidden]), features.extract(["kill all humans"]))


def test_extracts_a_batch_as_defined() -> None:
    assert_matches_reference(OWN)


def test_pinned_columns() -> None:
    """For ever: stored counts and models mean these columns."""
    counts = features.extract(["the cat", "Été 日本", ""])
    assert set(counts.counts.tolist()) == {1}
    assert [list(row) for row in rows_of(counts)] == PINNED


# fmt: off
PINNED = [
    [886, 22511, 65495, 66422, 66812, 72413, 73762, 76424, 81964, 94556, 97979, 98226, 103322,
     108216, 109884, 110628, 113853, 118311, 119193, 123574, 125654, 127253, 131031],
    [2174, 6752, 20743, 66309, 69135, 72288, 72907, 74589, 76424, 82431, 83349, 86279, 92084,
     92838, 101990, 105565, 106853, 123327, 129298],
    [],
]
# fmt: on

characters = st.one_of(
    st.characters(),
    st.sampled_from("ab A_1 .\n\u0301\u0345ßİΣσ\u00a0ﷺ각日👍\u202e\ud800\x00"),
)
texts = st.text(characters, max_size=60)


@settings(max_examples=150, deadline=None)
@given(st.lists(texts, max_size=6))
def test_extracts_any_text_as_defined(batch: list[str]) -> None:
    assert_matches_reference(batch)


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, max_size=6))
def test_rows_do_not_depend_on_the_batch(batch: list[str]) -> None:
    together = features.extract(batch)
    apart = features.concatenate([features.extract([text]) for text in batch])
    assert same(together, apart)
    order = np.random.default_rng(len(batch)).permutation(len(batch))
    shuffled = features.extract([batch[position] for position in order])
    assert same(shuffled, features.take(together, order))


@settings(max_examples=100, deadline=None)
@given(texts)
def test_explains_every_column(text: str) -> None:
    named = features.explain(text)
    assert set(named) == set(reference.ngrams(text))
    assert len(named) == len(set(named))
    assert {column for _, column in named} == set(reference.row(text))


@settings(max_examples=150, deadline=None)
@given(texts)
def test_the_plain_text_has_the_features_of_the_text_and_nothing_that_adds_none(text: str) -> None:
    plain = features.plain(text)
    assert same(features.extract([plain]), features.extract([text]))
    assert len(plain) <= len(text)
    assert features.plain(plain) == plain


def test_the_plain_text_keeps_its_lines_and_paragraphs() -> None:
    text = "\n\u2028a\u200b  b \r\nc\t\n \n\n\u2028d\u0301\n\n"
    assert features.plain(text) == "a b\nc\n\nd"


def test_marks_on_a_space_are_spaces_in_the_plain_text() -> None:
    assert features.plain("a \u00b4\u00a8 \u00b4 b\u00afc") == "a b c"


def test_small_chunks_and_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = features.extract(OWN)
    monkeypatch.setattr(features, "_CHUNK_CODE_POINTS", 64)
    monkeypatch.setattr(features, "_CHUNK_ROWS", 3)
    monkeypatch.setattr(features, "_PIECE", 16)
    monkeypatch.setattr(features, "_BLOCK_ENTRIES", 7)
    assert same(features.extract(OWN), expected)
    assert same(features.take(expected, np.arange(len(OWN))), expected)


def test_folding_one_code_point_at_a_time_is_folding_the_text() -> None:
    """Every code point there is, against the reference, which folds the whole text."""
    everything = "".join(map(chr, range(0x110000)))
    folded = "".join(map(features._fold_character, everything))
    assert folded == reference.fold(everything)


@pytest.mark.parametrize(
    "text",
    [
        "A" * 1_000_000,
        "ﷺ" * 20_000,
        "a" + "\u0301\u0323" * 2_048,
        "\u0323\u0301" * 262_144,
        "\n" * 2**20,
        "a " * 2**19,
        "㌖" * 200_000,
    ],
    ids=["long token", "expanding", "marks", "only marks", "blank", "words", "growing token"],
)
def test_huge_texts_take_bounded_time(text: str) -> None:
    started = time.process_time()
    counts = features.extract([text])
    assert time.process_time() - started < 1
    assert counts.rows == 1


def test_many_rows() -> None:
    counts = features.extract(["", "a b"] * 20_000)
    assert counts.rows == 40_000
    assert (np.diff(counts.offsets)[0::2] == 0).all()
    assert same(features.take(counts, np.array([39_999])), features.extract(["a b"]))


def test_counts_of_a_huge_token_are_exact() -> None:
    """Counted densely, piece by piece; the raw text is folded in pieces too."""
    length = features._PIECE + 1000
    row = rows_of(features.extract(["é" * length]))[0]
    runs = [65536 + (reference.murmur(reference.polynomial("e" * n)) >> 48) for n in (2, 3, 4, 5)]
    edges = ["e ", " e", "ee ", " ee", "eee ", " eee", "eeee ", " eeee"]
    columns = [65536 + (reference.murmur(reference.polynomial(edge)) >> 48) for edge in edges]
    assert [row.pop(column) for column in runs] == [length - n + 1 for n in (2, 3, 4, 5)]
    assert [row.pop(column) for column in columns] == [1] * len(edges)
    [(word, count)] = row.items()
    assert word < features.BLOCK
    assert count == 1


def test_pack_round_trip() -> None:
    counts = features.extract([*OWN, "A" * 70_000])
    blobs = features.pack(counts)
    assert len(blobs) == counts.rows
    assert max(map(len, blobs)) <= 16 + 7 * np.diff(counts.offsets).max()
    assert sum(map(len, blobs)) < 16 * counts.rows + 4 * len(counts.columns)
    assert same(features.unpack(blobs), counts)
    assert same(features.unpack([]), features.extract([]))
    assert same(features.unpack(features.pack(features.extract([]))), features.extract([]))


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, max_size=5))
def test_pack_round_trip_of_any_text(batch: list[str]) -> None:
    counts = features.extract(batch)
    assert same(features.unpack(features.pack(counts)), counts)


def test_malformed_blobs_are_refused() -> None:
    good = features.pack(features.extract(["Hello world " + "A" * 400]))[0]
    words, large = int.from_bytes(good[4:8], "little"), int.from_bytes(good[12:16], "little")
    assert words == 5
    assert large > 0
    bad = {
        "empty": b"",
        "short": good[:15],
        "cut": good[:-1],
        "longer": good + b"\0",
        "other version": b"\x02" + good[1:],
        "no pack": b"\xff" * 64,
        "words as characters": good[:4]
        + b"\0\0\0\0"
        + (words + int.from_bytes(good[8:12], "little")).to_bytes(4, "little")
        + good[12:],
        "descending": good[:16] + good[18:20] + good[16:18] + good[20:],
        "equal columns": good[:16] + good[16:18] * 2 + good[20:],
        "small large count": good[:-4] + (254).to_bytes(4, "little"),
        "huge header": good[:4] + b"\xff" * 12 + good[16:],
    }
    entries = words + int.from_bytes(good[8:12], "little")
    first_count = 16 + 2 * entries
    bad["count of 0"] = good[:first_count] + b"\0" + good[first_count + 1 :]
    bad["large too many"] = good[:first_count] + b"\xff" + good[first_count + 1 :]
    for name, blob in bad.items():
        assert refused([good, blob]), name


def refused(blobs: list[bytes]) -> bool:
    try:
        features.unpack(blobs)
    except ValueError as error:
        return "packed counts" in str(error)
    return False


def test_unpacking_is_fast() -> None:
    columns = np.sort(np.argsort(np.random.default_rng(0).random((50, 4096)))[:, :700] * 32)
    part = features.Counts(
        np.arange(51, dtype=np.int64) * 700,
        columns.astype(np.int32).ravel(),
        np.ones(50 * 700, np.float32),
    )
    blobs = features.pack(part) * 200
    best = min(timed(lambda: features.unpack(blobs)) for _ in range(3))
    assert best < 0.3


def timed(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def test_take_and_concatenate() -> None:
    counts = features.extract(OWN)
    mask = np.arange(len(OWN)) % 3 == 0
    assert same(features.take(counts, mask), features.extract(OWN[::3]))
    assert same(
        features.take(counts, np.array([5, 5, 0, 2])),
        features.extract([OWN[5], OWN[5], OWN[0], OWN[2]]),
    )
    assert features.take(counts, np.zeros(0, np.int64)).rows == 0
    assert features.concatenate([]).rows == 0


def test_document_frequency_and_idf() -> None:
    counts = features.extract(["cat dog", "cat cat", "", "bird"])
    frequency = features.document_frequency(counts)
    assert frequency.dtype == np.int32
    assert frequency.shape == (features.COLUMNS,)
    column = dict(features.explain("cat"))["cat"]
    assert frequency[column] == 2
    idf = features.inverse_document_frequency(frequency, 4)
    assert idf.dtype == np.float32
    assert idf[column] == np.float32(np.log(5 / 3) + 1)
    rare = dict(features.explain("bird"))["bird"]
    assert idf[rare] == np.float32(np.log(5 / 2) + 1)
    assert idf[frequency == 0].max() == 0  # what nobody has seen takes no share of a length


def test_weights_are_those_of_scikit_learn() -> None:
    """A vocabulary so small that no two n-grams share a column."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    batch = ["the cat sat on the mat", "a dog sat", "the the the dog", "", "mat cat dog bird"]
    counts = features.extract(batch)
    idf = features.inverse_document_frequency(features.document_frequency(counts), len(batch))
    data = features.weigh(counts, idf)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\w+").fit(
        batch
    )
    runs = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True).fit(batch)
    for number, text in enumerate(batch):
        named = {column: name for name, column in features.explain(text)}
        first, last = counts.offsets[number : number + 2]
        for column, value in zip(counts.columns[first:last], data[first:last], strict=True):
            vectoriser = words if column < features.BLOCK else runs
            row = vectoriser.transform([text])
            expected = row[0, vectoriser.vocabulary_[named[int(column)]]]
            assert value == pytest.approx(expected, rel=1e-6)


def test_scores_do_not_depend_on_the_batch_bit_for_bit() -> None:
    random = np.random.default_rng(3)
    idf = random.uniform(1, 9, features.COLUMNS).astype(np.float32)
    weights = random.normal(size=features.COLUMNS).astype(np.float32)
    batch = [*OWN, *(" ".join(random.choice(OWN[5:14], 5)) * 9 for _ in range(40)), "x" * 70_000]

    def score(some: list[str]) -> list[float]:
        counts = features.extract(some)
        result = features.dot(counts, features.weigh(counts, idf), weights)
        assert result.dtype == np.float64
        assert result.shape == (len(some),)
        return result.tolist()

    together = score(batch)
    assert together[0] == 0.0
    assert together == [score([text])[0] for text in batch]
    assert together[::-1] == score(batch[::-1])
    assert together[7:31] == score(batch[7:31])


def test_blocks_have_length_one() -> None:
    counts = features.extract(["Hello world", "...", "", "x"])
    data = features.weigh(counts, np.full(features.COLUMNS, 2, np.float32))
    for row in range(counts.rows):
        part = slice(counts.offsets[row], counts.offsets[row + 1])
        for words in (True, False):
            block = data[part][(counts.columns[part] < features.BLOCK) == words]
            assert not len(block) or np.square(block).sum() == pytest.approx(1, rel=1e-5)


def test_the_web_process_needs_numpy_alone() -> None:
    program = (
        "import sys\n"
        "from apps.guardrails.learning import artifact, calibration, features, threshold\n"
        "features.extract(['Hello wörld'])\n"
        "assert not {'sklearn', 'scipy', 'django'} & set(sys.modules), 'imported'\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_unicode_is_the_one_that_was_tested_or_newer() -> None:
    assert tuple(map(int, unicodedata.unidata_version.split("."))) >= (14, 0, 0)
