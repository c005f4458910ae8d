"""Find a Chromium for the browser tests, or install one, or say how. Never skips in silence.

`python tests/chromium.py` prints its path; the tests import `path()`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# no look-ups of update or sign-in hosts: the tests must not need any network
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def path() -> str:
    """The path of a Chromium that is there, or ""."""
    given = os.environ.get("CHROMIUM")
    if given:
        return given
    for name in NAMES:
        found = shutil.which(name)
        if found:
            return found
    return _of_playwright()


def _of_playwright() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.executable_path
    return found if Path(found).exists() else ""


def install() -> None:
    """Try the system's package manager as root, then Playwright's own download."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=False, env=quiet)
    if not path():
        subprocess.run(
            [sys.executable, "-m", "playwright", "install", "chromium"], check=False, timeout=600
        )


def main() -> int:
    if not path():
        print("No Chromium found; installing one for the browser tests.")
        install()
    found = path()
    if not found:
        print(
            "The browser tests need Chromium: install it (Debian: apt-get install chromium) "
            "or set CHROMIUM to its path."
        )
        return 1
    print(f"Chromium: {found}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
