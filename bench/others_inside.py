"""Runs in the environment of another library: how long it takes over ten patterns and one text.

python bench/others_inside.py guardrails-ai|llm-guard|nemoguardrails < {"text", "patterns"}
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable


def guardrails_ai(patterns: list[str]) -> Callable[[str], bool]:
    from guardrails import Guard
    from guardrails.validator_base import FailResult, PassResult, Validator, register_validator

    @register_validator(name="ten-patterns", data_type="string")
    class TenPatterns(Validator):
        compiled = [re.compile(pattern) for pattern in patterns]

        def _validate(self, value, metadata):
            if any(pattern.search(value) for pattern in self.compiled):
                return FailResult(error_message="found")
            return PassResult()

    guard = Guard().use(TenPatterns(on_fail="noop"))
    return lambda text: not guard.validate(text).validation_passed


def llm_guard(patterns: list[str]) -> Callable[[str], bool]:
    from llm_guard.input_scanners import Regex
    from llm_guard.util import configure_logger

    configure_logger("ERROR")  # it would write a line a text
    scanner = Regex(patterns=patterns, is_blocked=True, redact=False)
    return lambda text: not scanner.scan(text)[1]


def nemoguardrails(patterns: list[str]) -> Callable[[str], bool]:
    from nemoguardrails import LLMRails, RailsConfig

    config = {
        "models": [],
        "rails": {
            "config": {"regex_detection": {"input": {"patterns": patterns}}},
            "input": {"flows": ["regex check input"]},
        },
    }
    rails = LLMRails(RailsConfig.from_content(yaml_content=json.dumps(config)))

    def finds(text: str) -> bool:
        message = {"role": "user", "content": text}
        answer = rails.generate(messages=[message], options={"rails": ["input"]})
        return answer.response[0]["content"] != text

    return finds


LIBRARIES = {
    "guardrails-ai": guardrails_ai,
    "llm-guard": llm_guard,
    "nemoguardrails": nemoguardrails,
}


def main() -> None:
    given = json.load(sys.stdin)
    started = time.perf_counter()
    finds = LIBRARIES[sys.argv[1]](given["patterns"])
    ready = time.perf_counter() - started
    assert finds(given["text"] + given["secret"]), "it does not find what is there"
    assert not finds(given["text"]), "it finds what is not there"
    taken = []
    for _ in range(given["times"]):
        started = time.perf_counter()
        finds(given["text"])
        taken.append(time.perf_counter() - started)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # the last line: libraries print what they like before it
    sys.stdout.flush()
    os.write(1, ("\n" + json.dumps({"ready": ready, "memory": memory, "taken": taken})).encode())


if __name__ == "__main__":
    main()
