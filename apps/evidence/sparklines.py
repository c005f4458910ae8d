"""The small line of a figure over model versions."""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 100, 28


def points(values: Sequence[float | None]) -> str:
    """SVG polyline points of shares in [0, 1], oldest first; gaps are left out."""
    known = [(i, value) for i, value in enumerate(values) if value is not None]
    if len(known) < 2:
        return ""
    step = WIDTH / (len(values) - 1)
    return " ".join(f"{i * step:.1f},{(1 - value) * HEIGHT:.1f}" for i, value in known)


def band(lows: Sequence[float | None], highs: Sequence[float | None]) -> str:
    """SVG polygon points of the intervals around such a line."""
    upper = points(highs)
    lower = points(lows)
    return f"{upper} {' '.join(reversed(lower.split()))}" if upper and lower else ""
