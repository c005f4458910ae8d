"""Texts to counts of hashed n-grams, once per text, for every policy's classifier.

Definition, version 1 (ml.md section 1). Once it is released, a change of any part of it is a new
EXTRACTOR_VERSION.

*Folding.* Each code point on its own: none if a reader does not see it (apps.base.invisible: a
zero-width space inside a word hides it from n-grams, not from people); NFKD, combining marks
(canonical combining class not 0) dropped, case folded; then NFKD and dropping once more. Without
the marks their order is irrelevant, so this is NFKD of the whole text without its quadratic sorting
of long runs of marks.
*Tokens* are the runs between white space (`str.isspace`); *words* are runs of letters, digits and
underscores (`str.isalnum`), of one character or more.
*N-grams.* Words and pairs of neighbouring words; and all runs of 2 to 5 characters of each token
padded by one space on each side (scikit-learn's `char_wb`).
*Columns.* hash(s) = sum of ord(s[j]) * BASE**j modulo 2**64; mix() is the finaliser of MurmurHash3
(64 bit). Of the mixed hash the upper 16 bits are the column: a word's is mix(hash(word)); a pair's
is mix(mix(hash(first)) * BASE + mix(hash(second))); a run's is mix(hash(run)), plus BLOCK.

Case, decompositions and classes are those of the running Python's `unicodedata`: another release
of Unicode can fold newly assigned characters differently, all others are stable by its policy.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apps.base.invisible import is_invisible, is_plain

EXTRACTOR_VERSION = 1
BLOCK = 2**16
COLUMNS = 2 * BLOCK

SHORTEST_RUN, LONGEST_RUN = 2, 5

_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xFF51AFD7ED558CCD)
_MIX_2 = np.uint64(0xC4CEB9FE1A85EC53)

_FIRST_POWERS = np.array([pow(int(_BASE), power, 2**64) for power in range(64)], np.uint64)

# While counting, a text is a uint32 array: the code point, and this bit if it belongs to words.
_WORD = 1 << 31
_CODE_POINT = (1 << 21) - 1
_SPACE = 32

# A key is row << 17 | column in a uint32: sorting 32 bits costs half of sorting 64.
_COLUMN_BITS = 17
_CHUNK_ROWS = 2**14
# Arrays of this length stay in the second-level cache; measured best from 2**15 to 2**17.
_CHUNK_CODE_POINTS = 2**16
_PIECE = 2**18
_BLOCK_ENTRIES = 2**17

_PACKED_VERSION = 0x50430000 + EXTRACTOR_VERSION
_HEADER = np.dtype([("version", "<u4"), ("words", "<u4"), ("runs", "<u4"), ("large", "<u4")])
_LARGE = 255


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each column occurs in each text: a sparse matrix by rows.

    offsets: int64 (rows + 1), where each row's entries begin; the last is the number of entries.
    columns: int32 (entries), in [0, COLUMNS), ascending within a row: words, then characters.
    counts: float32 (entries), whole numbers from 1.
    """

    offsets: NDArray[np.int64]
    columns: NDArray[np.int32]
    counts: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Number of texts."""
        return len(self.offsets) - 1


# --- texts to counts ---------------------------------------------------------------------------


def extract(texts: Sequence[str]) -> Counts:
    """The counts of each text, in order; a text without a token is a row without entries.

    Any str is accepted, lone surrogates included. Memory beyond the result is bounded by about
    20 MB, or 60 bytes a code point of the longest text. A row does not depend on the others.
    """
    counted = [_count(texts[first:last]) for first, last in _chunks(texts)]
    return counted[0] if len(counted) == 1 else concatenate(counted)


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Bounds of runs of texts that are counted together; a long text is alone or last."""
    first, size = 0, 0
    for position, text in enumerate(texts):
        size += len(text) + 1
        if size >= _CHUNK_CODE_POINTS or position + 1 - first >= _CHUNK_ROWS:
            if position > first and len(text) >= _CHUNK_CODE_POINTS:
                yield first, position
                first = position
            yield first, position + 1
            first, size = position + 1, 0
    if first < len(texts):
        yield first, len(texts)


def _count(texts: Sequence[str]) -> Counts:
    """The counts of one chunk."""
    codes, lengths = _fold(texts)
    codes, keys = _collapse(codes, lengths)
    pieces = _keys(codes, keys)
    if len(texts) == 1 and len(codes) > _PIECE:
        return _tally_dense(pieces)
    return _tally(np.concatenate([np.zeros(0, np.uint32), *pieces]), len(texts))


def _fold(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Folded code points (with the _WORD bit) of all texts, a space before each and at the end.

    Also returns how many belong to each text, the space before it included.
    """
    joined = f" {' '.join(texts)} "
    lengths = np.array([len(text) + 1 for text in texts], np.int64)
    if is_plain(joined):
        return _ASCII.take(np.frombuffer(joined.encode("ascii"), np.uint8)), lengths
    raw = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    pieces = [_fold_piece(raw[start : start + _PIECE]) for start in range(0, len(raw), _PIECE)]
    sizes = np.concatenate([size for _, size in pieces])
    starts = np.cumsum(lengths) - lengths
    grown = np.add.reduceat(sizes, starts, dtype=np.int64)
    grown[-1] -= 1  # the space at the end belongs to no text
    return np.concatenate([codes for codes, _ in pieces]), grown


def _fold_piece(raw: NDArray[np.uint32]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Folds code points by table, and says how many (0 to 18) each has become."""
    codes = _ASCII.take(raw, mode="clip")
    foreign = np.flatnonzero(_FOREIGN.take(raw, mode="clip"))
    size = np.ones(len(raw), np.uint8)
    if not len(foreign):
        return codes, size
    distinct = np.unique(raw[foreign])
    folded = [_fold_code_point(code) for code in distinct.tolist()]
    order = np.empty(0x110000, np.uint32)
    order[distinct] = np.arange(len(distinct), dtype=np.uint32)
    which = order[raw[foreign]]
    sizes = np.fromiter(map(len, folded), np.uint8, len(folded))
    table = np.fromiter((code for codes in folded for code in codes), np.uint32)
    if len(table) == len(folded) and sizes.min() == 1:
        codes[foreign] = table[which]
        return codes, size
    size[foreign] = sizes[which]
    return _expand(codes, size, foreign, table, (np.cumsum(sizes, dtype=np.int64) - sizes)[which])


def _expand(
    codes: NDArray[np.uint32],
    size: NDArray[np.uint8],
    foreign: NDArray[np.intp],
    table: NDArray[np.uint32],
    source: NDArray[np.int64],
) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Puts table[source[k] : source[k] + size] in the place of code point foreign[k]."""
    begin = np.cumsum(size, dtype=np.int64) - size
    result = np.repeat(codes, size)
    lengths = size[foreign].astype(np.int64)
    within = _within(lengths)
    result[np.repeat(begin[foreign], lengths) + within] = table[np.repeat(source, lengths) + within]
    return result, size


def _within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """0 .. length - 1 for each length, one after another."""
    ends = np.cumsum(lengths)
    position = np.arange(int(ends[-1]) if len(ends) else 0)
    position -= np.repeat(ends - lengths, lengths)
    return position


@lru_cache(maxsize=2**15)
def _fold_code_point(code: int) -> tuple[int, ...]:
    """One code point, folded: the code points that stand for it, with the _WORD bit."""
    return tuple(_classify(character) for character in _fold_character(chr(code)))


def _fold_character(character: str) -> str:
    if is_invisible(character):
        return ""
    return _without_marks(_without_marks(character).casefold())


def _without_marks(text: str) -> str:
    parts = unicodedata.normalize("NFKD", text)
    return "".join(part for part in parts if not unicodedata.combining(part))


def plain(text: str) -> str:
    """The text as its features see it: no code point that folds to nothing, one space for many.

    It has the features of the text. Its lines are lines still, and blank ones between them are one.
    """
    foreign = [character for character in set(text) if not is_plain(character)]
    folded = {ord(one): _fold_code_point(ord(one)) for one in foreign if not one.isspace()}
    # some are marks on a space
    empty = {code: " " if to else "" for code, to in folded.items() if set(to) <= {_SPACE}}
    lines = (text.translate(empty) if empty else text).splitlines()
    plain_lines = "\n".join(" ".join(line.split()) for line in lines)
    return re.sub("\n{3,}", "\n\n", plain_lines.strip("\n"))


def _classify(character: str) -> int:
    if character.isspace():
        return _SPACE
    return ord(character) | (_WORD if character.isalnum() or character == "_" else 0)


# what becomes one code point without looking it up, and what does not
_ASCII = np.array([(*_fold_code_point(code), 0)[0] for code in range(128)], np.uint32)
_FOREIGN = np.array([not is_plain(chr(code)) for code in range(129)])


def _collapse(
    codes: NDArray[np.uint32], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Leaves one space between tokens, and gives each position its row << 17.

    Of a run of spaces the last stays: it is the one before a token, and of that token's row.
    """
    row_keys = np.arange(len(lengths), dtype=np.uint32) << np.uint32(_COLUMN_BITS)
    lengths = lengths.copy()
    lengths[-1] += 1  # the space at the end
    keys = row_keys.repeat(lengths)
    solid = codes != _SPACE
    keep = np.ones(len(codes), np.bool_)
    np.logical_or(solid[:-1], solid[1:], out=keep[:-1])
    return (codes, keys) if keep.all() else (codes.compress(keep), keys.compress(keep))


def _keys(codes: NDArray[np.uint32], keys: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """The row << 17 | column of every n-gram, repeated as often as it occurs, in no order."""
    hashes, owners = [], []
    for first, last in pairwise(_cuts(codes)):
        piece, piece_keys = codes[first : last + 1], keys[first : last + 1]
        yield from _run_keys(piece, piece_keys)
        word_hashes, starts = _word_hashes(piece)
        hashes.append(word_hashes)
        owners.append(piece_keys.take(starts))
    if hashes:
        yield from _word_keys(np.concatenate(hashes), np.concatenate(owners))


def _cuts(codes: NDArray[np.uint32]) -> list[int]:
    """Positions of spaces about _PIECE apart, from the first position to the last."""
    end = len(codes) - 1
    if end <= _PIECE:
        return [0, end] if end > 0 else []
    spaces = np.flatnonzero(codes == _SPACE)
    wanted = np.arange(0, end, _PIECE)
    cuts = spaces[np.searchsorted(spaces, wanted)]
    return sorted({*cuts.tolist(), end})


def _run_keys(codes: NDArray[np.uint32], keys: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    """Keys of the runs of 2 to 5 characters; a space may stand first or last, never inside."""
    points = (codes & _CODE_POINT).astype(np.uint64)
    solid = codes != _SPACE
    keys = keys | np.uint32(BLOCK)
    hashes = points
    whole: NDArray[np.bool_] | None = None
    for length in range(SHORTEST_RUN, min(LONGEST_RUN, len(codes)) + 1):
        hashes = hashes[1:] * _BASE
        hashes += points[: len(hashes)]
        if length == SHORTEST_RUN:
            yield _column(hashes) | keys[: len(hashes)]
            continue
        inner = solid[length - 2 : length - 2 + len(hashes)]
        whole = inner if whole is None else whole[: len(hashes)] & inner
        (where,) = whole.nonzero()
        yield _column(hashes.take(where)) | keys.take(where)


def _word_hashes(codes: NDArray[np.uint32]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """mix(hash(word)) of each word, and where it begins."""
    word = codes >= _WORD
    (inside,) = word.nonzero()
    if not len(inside):
        return np.zeros(0, np.uint64), inside
    # a space stands first and last
    starts = np.greater(word[1:], word[:-1]).nonzero()[0] + 1
    lengths = np.less(word[1:], word[:-1]).nonzero()[0] + 1
    lengths -= starts
    terms = _powers(int(lengths.max())).take(inside - starts.repeat(lengths))
    terms *= codes.take(inside) & _CODE_POINT
    return _mix(np.add.reduceat(terms, lengths.cumsum() - lengths)), starts


def _powers(count: int) -> NDArray[np.uint64]:
    """BASE**j for at least j < count."""
    if count <= len(_FIRST_POWERS):
        return _FIRST_POWERS
    powers = np.full(count, _BASE, np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


def _word_keys(
    hashes: NDArray[np.uint64], keys: NDArray[np.uint32]
) -> Iterator[NDArray[np.uint32]]:
    """Keys of the words and of the pairs of neighbours in one text."""
    yield _upper(hashes) | keys
    (neighbours,) = np.equal(keys[1:], keys[:-1]).nonzero()
    pairs = hashes.take(neighbours) * _BASE
    pairs += hashes.take(neighbours + 1)
    yield _column(pairs) | keys.take(neighbours)


def _tally(keys: NDArray[np.uint32], rows: int) -> Counts:
    """Counts equal keys."""
    keys.sort()
    first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=first[1:])
    (starts,) = first.nonzero()
    distinct = keys.take(starts)
    counts = np.empty(len(starts), np.float32)
    counts[:-1] = starts[1:] - starts[:-1]
    counts[-1:] = len(keys) - starts[-1:]
    bounds = np.arange(rows + 1, dtype=np.uint32) << _COLUMN_BITS
    return Counts(
        distinct.searchsorted(bounds).astype(np.int64),
        (distinct & (COLUMNS - 1)).astype(np.int32),
        counts,
    )


def _tally_dense(pieces: Iterator[NDArray[np.uint32]]) -> Counts:
    """Counts the keys of a single row piece by piece: memory does not grow with the text."""
    total = np.zeros(COLUMNS, np.int64)
    for keys in pieces:
        total += np.bincount(keys, minlength=COLUMNS)
    columns = np.flatnonzero(total)
    return Counts(
        np.array([0, len(columns)], np.int64),
        columns.astype(np.int32),
        total[columns].astype(np.float32),
    )


def _mix(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The 64-bit finaliser of MurmurHash3 (Appleby, public domain); a new array."""
    mixed = hashes >> np.uint64(33)
    mixed ^= hashes
    mixed *= _MIX_1
    mixed ^= mixed >> 33
    mixed *= _MIX_2
    mixed ^= mixed >> 33
    return mixed


def _upper(mixed: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return (mixed >> 48).astype(np.uint32)


def _column(hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """The upper 16 bits of the mixed hash, which the mixer's last step does not touch."""
    mixed = hashes >> np.uint64(33)
    mixed ^= hashes
    mixed *= _MIX_1
    mixed ^= mixed >> 33
    mixed *= _MIX_2
    mixed >>= 48
    return mixed.astype(np.uint32)


# --- counts, kept and put together ---------------------------------------------------------------


def pack(counts: Counts) -> list[bytes]:
    """One blob a row, 3 bytes an entry and 16 more.

    Little-endian: the version (0x50430000 + EXTRACTOR_VERSION), the number of entries in the
    words block, in the characters block, and of counts of 255 or more, four uint32; each entry's
    column within its block, uint16; each entry's count, uint8, 255 for larger ones; the larger
    counts, uint32.
    """
    header = np.zeros(counts.rows, _HEADER)
    header["version"] = _PACKED_VERSION
    header["words"] = _words(counts)
    header["runs"] = np.diff(counts.offsets) - header["words"]
    is_large = counts.counts >= _LARGE
    large_at = np.flatnonzero(is_large)
    large_bounds = np.searchsorted(large_at, counts.offsets)
    header["large"] = np.diff(large_bounds)
    heads = header.tobytes()
    columns = (counts.columns & (BLOCK - 1)).astype("<u2").tobytes()
    small = np.minimum(counts.counts, _LARGE).astype(np.uint8).tobytes()
    large = counts.counts[large_at].astype("<u4").tobytes()
    bounds = zip(
        range(0, len(heads), _HEADER.itemsize),
        pairwise(counts.offsets.tolist()),
        pairwise(large_bounds.tolist()),
        strict=True,
    )
    return [
        heads[head : head + _HEADER.itemsize]
        + columns[2 * first : 2 * last]
        + small[first:last]
        + large[4 * first_large : 4 * last_large]
        for head, (first, last), (first_large, last_large) in bounds
    ]


def unpack(blobs: Sequence[bytes]) -> Counts:
    """The counts that `pack` was given.

    Raises ValueError if a blob is not one that `pack` wrote with this EXTRACTOR_VERSION.
    """
    size = _HEADER.itemsize
    if any(len(blob) < size for blob in blobs):
        raise ValueError("packed counts: a blob is shorter than its header")
    header = np.frombuffer(b"".join([blob[:size] for blob in blobs]), _HEADER)
    if (header["version"] != _PACKED_VERSION).any():
        raise ValueError("packed counts: of another extractor version")
    lengths = header["words"].astype(np.int64) + header["runs"]
    expected = size + 3 * lengths + 4 * header["large"].astype(np.int64)
    if [len(blob) for blob in blobs] != expected.tolist():
        raise ValueError("packed counts: a blob has not the length that its header says")
    bounds = (size + np.outer(lengths, [2, 3])).tolist()
    columns = b"".join([blob[size:end] for blob, (end, _) in zip(blobs, bounds, strict=True)])
    small = b"".join([blob[start:end] for blob, (start, end) in zip(blobs, bounds, strict=True)])
    large = b"".join([blob[start:] for blob, (_, start) in zip(blobs, bounds, strict=True)])
    offsets = np.append(0, np.cumsum(lengths))
    return Counts(
        offsets,
        _unpack_columns(np.frombuffer(columns, "<u2"), offsets, header["words"].astype(np.int64)),
        _unpack_counts(
            np.frombuffer(small, np.uint8), np.frombuffer(large, "<u4"), header, offsets
        ),
    )


def _unpack_columns(
    low: NDArray[np.uint16], offsets: NDArray[np.int64], words: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Puts the block's bit back and checks that columns ascend within each row."""
    columns = low.astype(np.int32)
    lengths = np.diff(offsets)
    block = np.tile(np.array([0, BLOCK], np.int32), len(words))
    columns += np.repeat(block, np.column_stack([words, lengths - words]).ravel())
    descends = columns[1:] <= columns[:-1]
    starts = offsets[1:-1]
    descends[starts[(starts > 0) & (starts < len(columns))] - 1] = False
    if descends.any():
        raise ValueError("packed counts: columns do not ascend")
    return columns


def _unpack_counts(
    small: NDArray[np.uint8],
    large: NDArray[np.uint32],
    header: NDArray[Any],
    offsets: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Puts the larger counts in their places."""
    counts = small.astype(np.float32)
    large_at = np.flatnonzero(small == _LARGE)
    fits = np.array_equal(np.diff(np.searchsorted(large_at, offsets)), header["large"])
    if not fits or (large < _LARGE).any() or not small.all():
        raise ValueError("packed counts: impossible counts")
    counts[large_at] = large
    return counts


def take(counts: Counts, rows: NDArray[Any]) -> Counts:
    """The rows with these numbers, in this order (or a bool array: those where it is True)."""
    numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows.astype(np.int64)
    lengths = np.diff(counts.offsets)[numbers]
    offsets = np.append(0, np.cumsum(lengths))
    shifts = counts.offsets[numbers] - offsets[:-1]
    columns = np.empty(int(offsets[-1]), np.int32)
    values = np.empty(int(offsets[-1]), np.float32)
    for rows_of, entries in _blocks(offsets):
        source = np.repeat(shifts[rows_of], lengths[rows_of])
        source += np.arange(entries.start, entries.stop)
        np.take(counts.columns, source, out=columns[entries])
        np.take(counts.counts, source, out=values[entries])
    return Counts(offsets, columns, values)


def concatenate(parts: list[Counts]) -> Counts:
    """The rows of all parts, in order."""
    lengths = [np.diff(part.offsets) for part in parts]
    offsets = np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)
    return Counts(
        offsets,
        np.concatenate([np.zeros(0, np.int32), *(part.columns for part in parts)]),
        np.concatenate([np.zeros(0, np.float32), *(part.counts for part in parts)]),
    )


def _blocks(offsets: NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Cuts rows into blocks of about _BLOCK_ENTRIES entries: which rows, which entries."""
    wanted = np.arange(0, int(offsets[-1]), _BLOCK_ENTRIES)
    cuts = np.unique(np.append(np.searchsorted(offsets, wanted), len(offsets) - 1))
    for first, last in pairwise(cuts.tolist()):
        yield slice(first, last), slice(int(offsets[first]), int(offsets[last]))


def _words(counts: Counts) -> NDArray[np.int64]:
    """How many entries of each row are in the words block."""
    return np.diff(np.searchsorted(np.flatnonzero(counts.columns < BLOCK), counts.offsets))


# --- counts to weights and scores ----------------------------------------------------------------


def document_frequency(counts: Counts) -> NDArray[np.int32]:
    """In how many rows each column occurs; (COLUMNS)."""
    frequency = np.zeros(COLUMNS, np.int32)
    for _, entries in _blocks(counts.offsets):
        frequency += np.bincount(counts.columns[entries], minlength=COLUMNS).astype(np.int32)
    return frequency


def inverse_document_frequency(frequency: NDArray[Any], documents: int) -> NDArray[np.float32]:
    """log((1 + documents) / (1 + frequency)) + 1, scikit-learn's smoothed form; (COLUMNS).

    A column that no document has weighs 0, as if a vocabulary had dropped it: n-grams that
    nobody has seen must not take a share of a text's length.

    Args:
        frequency: in how many of the documents each column occurs, in [0, documents].
        documents: how many texts were counted, those without any n-gram included.
    """
    ratio = (1.0 + documents) / (1.0 + frequency.astype(np.float64))
    return np.where(frequency > 0, np.log(ratio) + 1.0, 0.0).astype(np.float32)


def weigh(counts: Counts, idf: NDArray[np.float32]) -> NDArray[np.float32]:
    """(1 + log(count)) * idf of each entry, each block of each row scaled to length 1; (entries).

    Bit for bit the same whatever other rows there are.
    """
    data = np.empty(len(counts.columns), np.float32)
    for rows, entries in _blocks(counts.offsets):
        columns = counts.columns[entries]
        part = damp(counts.counts[entries])
        part *= idf[columns]
        offsets = counts.offsets[rows.start : rows.stop + 1] - entries.start
        words = np.diff(np.searchsorted(np.flatnonzero(columns < BLOCK), offsets))
        lengths = np.column_stack([words, np.diff(offsets) - words]).ravel()
        squares = _sums(part * part, lengths)
        scale = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
        part *= np.repeat(scale, lengths)
        data[entries] = part
    return data


def dot(
    counts: Counts, data: NDArray[np.float32], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Each row's sum of data * weights[column]; (rows), 0 for a row without entries.

    Bit for bit the same whatever other rows there are.
    """
    sums = np.zeros(counts.rows)
    for rows, entries in _blocks(counts.offsets):
        products = np.multiply(data[entries], weights[counts.columns[entries]], dtype=np.float64)
        sums[rows] = _sums(products, np.diff(counts.offsets[rows.start : rows.stop + 1]))
    return sums


def damp(counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 + log(count) by table, so that no processor's vector logarithm has a say; a new array."""
    damped = _DAMPED.take(counts.astype(np.int32), mode="clip")
    if counts.max(initial=0) >= len(_DAMPED):
        (large,) = (counts >= len(_DAMPED)).nonzero()
        damped[large] = [1.0 + math.log(count) for count in counts[large].tolist()]
    return damped


_DAMPED = np.array([0.0, *(1.0 + math.log(count) for count in range(1, 1024))], np.float32)


def _sums(values: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
    """Sums of consecutive segments of these lengths; 0 where the length is 0.

    `reduceat` would give an empty segment the value after it, so those are left out. Each
    segment is summed on its own, in an order that depends on its length only.
    """
    sums = np.zeros(len(lengths), values.dtype)
    filled = np.flatnonzero(lengths)
    if len(filled):
        sums[filled] = np.add.reduceat(values, (np.cumsum(lengths) - lengths)[filled])
    return sums


# --- the way back --------------------------------------------------------------------------------


def explain(text: str) -> list[tuple[str, int]]:
    """Every n-gram of one text and its column, each once, in order of first occurrence.

    Words first, then pairs of words (joined by a space), then runs of characters, in which a
    space stands for a token's edge. Plain Python: for one text at a time, about 1 MB a second.
    """
    codes, lengths = _fold([text])
    codes, _ = _collapse(codes, lengths)
    folded = "".join(chr(code & _CODE_POINT) for code in codes.tolist())
    words = "".join(
        chr(code & _CODE_POINT) if code >= _WORD else " " for code in codes.tolist()
    ).split()
    tokens = [f" {token} " for token in folded.split()]
    runs = [
        token[start : start + length]
        for length in range(SHORTEST_RUN, LONGEST_RUN + 1)
        for token in tokens
        for start in range(len(token) - length + 1)
    ]
    named = [(word, _plain_mix(_plain_hash(word)) >> 48) for word in words]
    named += [
        (f"{first} {second}", _pair_column(first, second)) for first, second in pairwise(words)
    ]
    named += [(run, BLOCK + (_plain_mix(_plain_hash(run)) >> 48)) for run in runs]
    return list(dict.fromkeys(named))


def _pair_column(first: str, second: str) -> int:
    mixed = [_plain_mix(_plain_hash(word)) for word in (first, second)]
    return _plain_mix((mixed[0] * int(_BASE) + mixed[1]) % 2**64) >> 48


def _plain_hash(text: str) -> int:
    hashed = 0
    for character in reversed(text):
        hashed = (hashed * int(_BASE) + ord(character)) % 2**64
    return hashed


def _plain_mix(hashed: int) -> int:
    hashed = (hashed ^ hashed >> 33) * int(_MIX_1) % 2**64
    hashed = (hashed ^ hashed >> 33) * int(_MIX_2) % 2**64
    return hashed ^ hashed >> 33
