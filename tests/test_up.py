"""`make run` as its user meets it: start, start twice, stop, start again, and what can be wrong."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from itertools import accumulate, repeat
from pathlib import Path

import psutil
import pytest

from guardrails_site.management.commands.up import next_pause
from tests.running import ROOT, Running, running

pytestmark = pytest.mark.xdist_group("site")


def up(data_dir: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "PARAPET_"))}
    return subprocess.run(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env={**kept, "PARAPET_DATA_DIR": str(data_dir), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def processes_on(data_dir: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("PARAPET_DATA_DIR") == str(data_dir) or str(
                data_dir
            ) in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_second_start_says_that_it_runs_already_and_where(site: Running) -> None:
    again = up(site.data_dir)
    assert again.returncode == 0
    assert f"runs already at {site.address}" in again.stdout


def test_what_dies_at_once_is_started_less_and_less_often() -> None:
    pauses = list(accumulate(repeat(0.1, 8), next_pause, initial=0.5))
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10, 10, 10]


def test_what_ran_for_a_while_is_started_again_at_once() -> None:
    assert next_pause(10.0, ran=3600.0) == 0.5


def test_the_demo_prints_three_logins_and_only_once(tmp_path: Path) -> None:
    with running(tmp_path / "data") as first:
        logins = first.output.read_text()
    assert logins.count("@demo.example") == 3
    with running(tmp_path / "data") as second:
        assert "@demo.example" not in second.output.read_text()
        with second.client("admin@demo.example", "demo") as api:
            metrics = api.get("policies/medical-dosage/metrics").json()
        assert metrics["model_version"] == 2


def test_after_ctrl_c_nothing_keeps_running_and_the_data_stays(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    with running(data_dir):
        assert processes_on(data_dir)
    assert processes_on(data_dir) == []
    assert (data_dir / "postgres" / "PG_VERSION").exists()


def test_an_unreachable_database_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    ended = up(tmp_path, DATABASE_URL="postgresql://nobody:x@127.0.0.1:1/none")
    assert ended.returncode == 1
    (line,) = [text for text in ended.stderr.splitlines() if text.strip()]
    assert "Cannot reach the database of DATABASE_URL" in line


def test_a_taken_port_is_one_clear_line_and_exit_code_1(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = up(tmp_path, PORT=str(taken.getsockname()[1]))
    assert ended.returncode == 1
    assert "is taken by another program" in ended.stderr


def test_a_command_without_a_database_says_what_to_do(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DATABASE_", "PARAPET_"))}
    ended = subprocess.run(
        [sys.executable, "manage.py", "verify_audit"],
        cwd=ROOT,
        env={**kept, "PARAPET_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    assert (
        ended.stderr.strip() == "No database: start Parapet with `make run`, or set DATABASE_URL."
    )


def test_a_demo_can_be_reset_while_it_runs(tmp_path: Path) -> None:
    with running(tmp_path / "data") as site:
        before = site.output.read_text()
        printed = site.manage("demo", "--reset")
        assert printed.count("@demo.example") == 3
        assert not any(word in before for word in printed.split() if word.count("-") == 3)
        with site.client("admin@demo.example", "demo") as api:
            runs = api.get("policies/medical-dosage/runs").json()["results"]
            assert api.get("policies/medical-dosage/metrics").json()["model_version"], runs
        assert "entries, head" in site.manage("verify_audit")


def test_issue_token_prints_the_token_and_nothing_else(site: Running) -> None:
    printed = site.manage(
        "issue_token", "admin@demo.example", "--workspace", "demo", "--scope", "read", "label"
    )
    assert printed.startswith("gk_")
    assert len(printed.split()) == 1


def test_the_web_process_never_imports_scikit_learn() -> None:
    code = (
        "import sys, json, guardrails_site.wsgi, guardrails_site.api_urls, guardrails_site.urls;"
        "print(json.dumps(sorted(m for m in sys.modules if m.split('.')[0] == 'sklearn')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
