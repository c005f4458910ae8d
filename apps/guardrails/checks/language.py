"""Texts in a language that is not allowed, told by py3langid."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any

import re2

from apps.guardrails.checks.interface import (
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    found,
    wrong,
)

_CODES = (
    "af am ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr fy ga gd gl "
    "gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lg ln lo lt lv mg mk ml "
    "mn mr ms mt my ne nl nn no oc om or pa pl ps pt qu ro ru rw sa se si sk sl sn so sq sr st "
    "sv sw ta te tg th tk tl tr tt ug uk ur uz vi vo wa xh yo zh zu an"
)
LANGUAGES = tuple(sorted(_CODES.split()))
"""What can be told apart, by ISO 639-1."""

_PARTS = {
    "ar": ("ary", "arz"),
    "el": ("grc",),
    "he": ("hbo",),
    "ku": ("sdh",),
    "no": ("nn",),
    "uz": ("uzs",),
    "zh": ("wuu", "yue"),
}
"""Codes of the identifier that are a part of a language with a code of its own."""

_NO_LANGUAGE = "zxx"
_PIECE = 1_000
_SLIVER = 0.1
# addresses are in no language, and their letters alone would look like some
_ADDRESS = re2.compile(r"https?://\S+")
_loading = threading.Lock()


def build(settings: Mapping[str, Any]) -> Evaluate:
    if not settings["allowed"]:
        raise wrong("allowed", "Choose at least one language.")
    allowed = {code for one in settings["allowed"] for code in (one, *_PARTS.get(one, ()))}
    confidence, letters = settings["confidence"], settings["letters"]
    rank = _identifier()

    def evaluate(subject: Subject) -> Found:
        form = subject.plain
        text = subject.text if form is None else form.text
        told: set[str] = set()
        spans: list[Span] = []
        for start, end in _pieces(text, letters):
            ranked = rank(_letters(text[start:end]))
            other = _others(ranked, allowed)
            if sum(other.values()) >= confidence:
                told.add(max(other, key=lambda code: other[code]))
                spans.append((start, end) if form is None else form.back(start, end))
        return found(spans, f"probably in {', '.join(sorted(told))}")

    return evaluate


def _pieces(text: str, fewest: int) -> list[Span]:
    """The text in pieces of a thousand letters or so, cut at white space where there is some.

    A whole text would hide a paragraph in another language; a text cut short would hide all that
    follows. It is letters that are counted, or blanks and digits could thin a piece out. Fewer
    letters than `fewest` cannot be told: "ok", "taxi" and names belong to many languages.
    """
    letters = [at for at, character in enumerate(text) if character.isalpha()]
    if len(letters) < max(fewest, 1):
        return []
    number = -(-len(letters) // _PIECE)
    cuts = [0]
    for one in range(1, number):
        at = letters[one * len(letters) // number]
        before = max(text.rfind(" ", cuts[-1], at), text.rfind("\n", cuts[-1], at))
        cuts.append(before + 1 if before > at - 100 else at)
    cuts.append(len(text))
    return list(pairwise(cuts))


def _letters(piece: str) -> str:
    """The words alone: what stands between them would thin them out."""
    if "://" in piece:
        piece = _ADDRESS.sub(" ", piece)
    kept = (one if one.isalpha() or one == "'" or _is_mark(one) else " " for one in piece)
    return " ".join("".join(kept).split())


def _is_mark(character: str) -> bool:
    return not character.isascii() and unicodedata.category(character)[0] == "M"


def _others(ranked: list[tuple[str, float]], allowed: set[str]) -> dict[str, float]:
    """The languages that are not allowed and not noise, with their probabilities.

    They are added up, because a short text may be as well Spanish as Portuguese, and is English in
    neither case. Slivers are not: of a text in no language (code, names) they make up all.
    """
    return {
        code: probability
        for code, probability in ranked
        if probability >= _SLIVER and code not in allowed and code != _NO_LANGUAGE
    }


@cache
def _load() -> Any:
    # 25 MB that only those pay whose policies use it
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    parts = [code for codes in _PARTS.values() for code in codes]
    identifier.set_languages([*LANGUAGES, *parts, _NO_LANGUAGE])
    return identifier.rank


def _identifier() -> Any:
    with _loading:
        return _load()


KIND = Kind(
    name="language",
    title="Language",
    about="Finds texts, and parts of texts, in a language that is not allowed.",
    fields=(
        Field(
            "allowed",
            "choices",
            "Allowed languages",
            "By their ISO 639-1 codes. Close relatives (hr, bs, sr) are easily taken for each "
            "other: allow them together.",
            choices=LANGUAGES,
        ),
        Field(
            "confidence",
            "number",
            "Minimum confidence",
            "How probable a language that is not allowed must be.",
            0.7,
            low=0.1,
            high=1,
        ),
        Field(
            "letters",
            "whole",
            "Fewest letters",
            "Texts with fewer letters are not judged: short texts cannot be told.",
            25,
            low=1,
            high=1_000,
        ),
    ),
    build=build,
)
