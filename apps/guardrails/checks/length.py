"""Texts that are too short or too long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.guardrails.checks.interface import (
    NOTHING,
    Evaluate,
    Field,
    Found,
    Kind,
    Span,
    Subject,
    wrong,
)

_LONGEST = 1_048_576


def build(settings: Mapping[str, Any]) -> Evaluate:
    fewest, most, most_words = (settings[name] for name in ("fewest", "most", "most_words"))
    if not (fewest or most or most_words):
        raise wrong("most", "Give at least one limit; 0 is none.")
    if most and fewest > most:
        raise wrong("fewest", "Not more than the most characters, or no text would pass.")

    def evaluate(subject: Subject) -> Found:
        length = len(subject.text)
        reasons: list[str] = []
        cuts: list[int] = []
        if length < fewest:
            reasons.append(f"{length:,} characters, fewer than {fewest:,}")
        if most and length > most:
            reasons.append(f"{length:,} characters, more than {most:,}")
            cuts.append(most)
        words, after = _words(subject.text, most_words)
        if most_words and words > most_words:
            reasons.append(f"{words:,} words, more than {most_words:,}")
            cuts.append(after)
        spans: tuple[Span, ...] = ((min(cuts), length),) if cuts else ()
        return Found(1.0, spans, "; ".join(reasons)) if reasons else NOTHING

    return evaluate


def _words(text: str, most: int) -> tuple[int, int]:
    """How many words there are, and where the first one beyond the most begins."""
    words = text.split()
    if len(words) <= most:
        return len(words), len(text)
    # maxsplit leaves the rest of the text as one piece, without white space before it
    rest = text.split(maxsplit=most)[most]
    return len(words), len(text.rstrip()) - len(rest.rstrip())


KIND = Kind(
    name="length",
    title="Length",
    about="Finds texts with too few or too many characters, or too many words.",
    fields=(
        Field("fewest", "whole", "Fewest characters", "0: no limit.", 0, low=0, high=_LONGEST),
        Field("most", "whole", "Most characters", "0: no limit.", 0, low=0, high=_LONGEST),
        Field(
            "most_words",
            "whole",
            "Most words",
            "Words are what white space separates. 0: no limit.",
            0,
            low=0,
            high=_LONGEST,
        ),
    ),
    build=build,
)
