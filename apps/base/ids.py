"""UUIDv7: identifiers that sort by the time they were made."""

from uuid_utils.compat import uuid7

__all__ = ["uuid7"]
