"""The same trivial work in other libraries, beside ours: ten patterns on a text of 1 kB.

Every library gets an environment of its own, made once and kept in --place; ours is asked in
process and over HTTP, as `make run` serves it.

    python bench/others.py [--place /tmp/parapet-others] [--times 300]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.checks import Caller, enforce
from bench.speed import make_policy, spread, texts
from tests.running import running

# torch by name: llm-guard would take a build of several gigabytes that it does not need here
OTHERS = {
    "guardrails-ai": ["guardrails-ai==0.11.0"],
    "llm-guard": ["torch==2.13.0", "llm-guard==0.3.16"],
    "nemoguardrails": ["nemoguardrails==0.24.1"],
}
PATTERNS = [rf"\bsecret-{n}-\d{{4,}}\b" for n in range(10)]
SECRET = " secret-7-12345 "


def environment(place: Path, name: str) -> Path:
    """The Python of the library's own environment."""
    python = place / name / "bin" / "python"
    if not (place / name / "installed").exists():
        venv.create(place / name, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *OTHERS[name]]
        subprocess.run(install, check=True, capture_output=True, text=True)
        (place / name / "installed").touch()
    return python


def other(python: Path, name: str, given: dict[str, Any]) -> str:
    script = Path(__file__).with_name("others_inside.py")
    offline = {"HF_HUB_OFFLINE": "1", "OTEL_SDK_DISABLED": "true", "DO_NOT_TRACK": "1"}
    done = subprocess.run(
        [str(python), str(script), name],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **offline},
    )
    found = json.loads(done.stdout.rsplit("\n", 1)[-1])
    taken = spread(found["taken"], digits=3)
    return f"{taken}; ready after {found['ready']:.1f} s, {found['memory']:.0f} MB"


def ours_in_process(given: dict[str, Any]) -> str:
    from apps.guardrails.checks.interface import Subject
    from apps.guardrails.configuration import CheckSettings, built
    from apps.guardrails.gate import Gate
    from apps.guardrails.guarding import Check, Guardrail, verdict_on

    settings = CheckSettings("patterns", "regex", settings={"patterns": given["patterns"]})
    check = Check(key="patterns", kind="regex", action="block", evaluate=built(settings))
    guardrail = Guardrail(checks=(check,), gate=Gate(), exemptions=(), key=b"")
    assert verdict_on(guardrail, Subject(given["text"] + given["secret"]), None).fires
    taken = []
    for _ in range(given["times"]):
        started = time.perf_counter()
        verdict_on(guardrail, Subject(given["text"]), None)
        taken.append(time.perf_counter() - started)
    return spread(taken, digits=3)


def ours_over_http(given: dict[str, Any]) -> str:
    """The whole of it: token, receipt and recorded decision."""
    with running() as site:
        site.workspace("bench")
        api = site.client("admin@bench.example", "bench")
        make_policy(api, "patterns")
        check = {"key": "patterns", "kind": "regex", "settings": {"patterns": given["patterns"]}}
        enforce(api, "patterns", check)
        time.sleep(2)
        caller = Caller(api)
        body = json.dumps({"stage": "output", "text": given["text"]}).encode()
        for _ in range(50):
            caller.check(body)
        return spread([caller.check(body) for _ in range(given["times"])], digits=3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--place", type=Path, default=Path("/tmp/parapet-others"))
    parser.add_argument("--times", type=int, default=300)
    options = parser.parse_args()
    text = next(iter(texts(1, 1000)))["output"]
    given = {"text": text, "secret": SECRET, "patterns": PATTERNS, "times": options.times}
    print(f"Parapet, in process: {ours_in_process(given)}")
    print(f"Parapet, over HTTP: {ours_over_http(given)}")
    for name in OTHERS:
        try:
            print(f"{name}: {other(environment(options.place, name), name, given)}")
        except subprocess.CalledProcessError as error:
            print(f"{name}: not measured: {(error.stderr or '').strip()[-300:]}")


if __name__ == "__main__":
    main()
