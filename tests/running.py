"""Parapet as `make run` starts it, for tests and benchmarks: real processes, real everything."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Running:
    """A running `manage.py up`."""

    address: str
    data_dir: Path
    process: subprocess.Popen[str]
    output: Path

    @property
    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DATABASE_", "PARAPET_", "DJANGO_", "PYTEST_"))
        }
        return {**kept, "PARAPET_DATA_DIR": str(self.data_dir)}

    def manage(self, *arguments: str) -> str:
        """What `manage.py ...` prints."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return done.stdout.strip()

    def workspace(self, slug: str, *, split_seed: int | None = None) -> None:
        """An empty workspace with one admin, admin@<slug>.example."""
        seed = () if split_seed is None else ("--split-seed", str(split_seed))
        self.manage("create_admin", f"admin@{slug}.example", "--workspace", slug, *seed)

    def client(self, email: str, workspace: str, *scopes: str) -> httpx.Client:
        """An HTTP client with a fresh token."""
        scopes = scopes or ("all",)
        key = self.manage(
            *("issue_token", email, "--workspace", workspace, "--scope", *scopes),
            *("--checks-per-second", "10000"),
        )
        return httpx.Client(
            base_url=f"{self.address}/api/v1/",
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
        )

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(40)
        return self.output.read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(data_dir: Path | None = None, **variables: str) -> Iterator[Running]:
    """Start Parapet on a folder (a new one by default) and stop it at the end."""
    data_dir = data_dir or Path(tempfile.mkdtemp(prefix="parapet-run-"))
    data_dir.mkdir(parents=True, exist_ok=True)
    port = free_port()
    output = data_dir / "up.log"
    site = Running(f"http://localhost:{port}", data_dir, None, output)  # type: ignore[arg-type]
    environment = {**site.environment, "PORT": str(port), **variables}
    with output.open("w") as log:
        site.process = subprocess.Popen(
            [sys.executable, "-u", "manage.py", "up"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for(lambda: _answers(site), seconds=90)
            yield site
        finally:
            if site.process.poll() is None:
                site.stop()


def _answers(site: Running) -> bool:
    if site.process.poll() is not None:
        raise RuntimeError(f"`up` ended: {site.output.read_text()[-3000:]}")
    try:
        return httpx.get(f"{site.address}/api/v1/health/ready").status_code == 200
    except httpx.HTTPError:
        return False


def wait_for(condition: Callable[[], Any], *, seconds: float = 30, every: float = 0.05) -> Any:
    """Whatever the condition returns once it is true; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"It did not happen within {seconds} s.")
        time.sleep(every)
