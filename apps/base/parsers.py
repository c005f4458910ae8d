"""DRF's door to the input gate."""

from __future__ import annotations

from typing import Any

from rest_framework.parsers import BaseParser

from apps.base.gate import MAXIMUM_JSON_BYTES, parse_json


class StrictJSONParser(BaseParser):
    """application/json through the input gate."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        data = stream.read(MAXIMUM_JSON_BYTES + 1)
        return parse_json(data) if data else {}
