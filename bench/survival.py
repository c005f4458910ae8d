"""Ten minutes of four labellers, an import of 50,000, retrains, and a kill -9 each half minute.

python bench/survival.py [--minutes 10] [--arriving 50000]
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.running import running
from tests.survival.storm import check, storm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--arriving", type=int, default=50_000)
    options = parser.parse_args()
    with running() as site:
        found = storm(site, seconds=options.minutes * 60, kill_every=30, arriving=options.arriving)
    ledger = found["ledger"]
    print(f"{len(ledger.labels):,} labels acknowledged, {ledger.interruptions} requests cut off")
    print(f"killed: {dict(Counter(kill.split()[0].rstrip('@') for kill in ledger.kills))}")
    print(
        f"runs: {dict(Counter(run['status'] for run in found['runs']))}, "
        f"attempts beyond the first: see the Training page; models: {len(found['models'])}"
    )
    print(f"import: {found['import']['status']}, {found['import']['new']:,} new")
    check(found)
    print("every acknowledged label exists once, no trigger lost, no run stuck, figures recomputed")


if __name__ == "__main__":
    main()
