"""Log lines: one a record, new lines and escapes made visible, no request texts."""

from __future__ import annotations

import logging

import structlog

TOLD = ("error", "code", "id", "job", "task", "policy", "reason")
"""What a line tells besides its event; Django adds requests, whose addresses may quote texts."""


def line_formatter() -> logging.Formatter:
    """A formatter for the standard logging handlers that prints one key=value line."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(allow=TOLD),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(
                key_order=["timestamp", "level", "logger", "event"], bool_as_flag=False
            ),
        ],
    )
