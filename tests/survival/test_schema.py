"""The OpenAPI document against the running site: every answer is one that it describes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.running import Running

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,"
    "response_schema_conformance"
)


def test_every_operation_answers_as_it_is_described(site: Running, tmp_path: Path) -> None:
    site.workspace("fuzzed")
    with site.client("admin@fuzzed.example", "fuzzed") as api:
        document = tmp_path / "schema.json"
        document.write_bytes(api.get("schema", params={"format": "json"}).content)
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("run", str(document), "--url", site.address),
                *("-H", f"Authorization: {api.headers['Authorization']}"),
                *("--checks", CHECKS, "--phases", "examples,fuzzing"),
                *("--max-examples", "8", "--continue-on-failure", "--no-color"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-6000:]
    assert " generated, " in done.stdout
