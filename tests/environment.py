"""Loaded by `-p tests.environment` before Django reads its settings.

Gives a test run its own data folder, and an embedded PostgreSQL when no DATABASE_URL is given.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# the processes of pytest-xdist inherit the folder and the database; each has its own part of both
if "PARAPET_TEST_DIR" not in os.environ:
    os.environ["PARAPET_TEST_DIR"] = tempfile.mkdtemp(prefix="parapet-test-")
worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
os.environ["PARAPET_DATA_DIR"] = str(Path(os.environ["PARAPET_TEST_DIR"]) / worker)
if not os.environ.get("DATABASE_URL"):
    from guardrails_site import embedded

    os.environ["DATABASE_URL"] = embedded.start(ROOT / "var" / "test-postgres")
