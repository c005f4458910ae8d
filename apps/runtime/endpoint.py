"""What the routes of the check API have in common: quick authentication and a limit a token."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.actor import Actor
from apps.accounts.authentication import KnownBearerToken, PageSession
from apps.accounts.endpoint import Endpoint
from apps.accounts.models import CHECKS_PER_SECOND
from apps.base.problems import Problem
from apps.runtime.limits import Buckets, Taken

logger = logging.getLogger(__name__)


class CheckEndpoint(Endpoint):
    """A route that production asks with every message.

    Its token is not looked up each time, and may ask so many checks a second; every answer tells
    the limit in `RateLimit-*` headers.
    """

    authentication_classes = [KnownBearerToken, PageSession]
    requires = {"POST": "check.run"}
    taken: Taken | None = None

    def check_throttles(self, request: Request) -> None:
        self.taken = take(self.actor)
        let_in(self.taken)

    def spend(self, checks: int) -> None:
        """Count the other texts of a request whose first one was let in."""
        if checks:
            self.taken = take(self.actor, checks=checks, anyway=True)

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Response:
        answer = super().finalize_response(request, response, *args, **kwargs)
        for name, value in limit_headers(self.taken).items():
            answer[name] = value
        return answer  # type: ignore[no-any-return]


def take(actor: Actor, *, checks: int = 1, anyway: bool = False) -> Taken | None:
    """Take checks from the bucket of a token, or of a signed-in person; None without buckets.

    A limiter that is away must not stop production: then nothing is limited, and the log says so.
    """
    buckets = _buckets()
    if buckets is None:
        return None
    name, rate = _bucket_of(actor)
    return buckets.take(name, rate, checks=checks, anyway=anyway)


def let_in(taken: Taken | None) -> None:
    """Raise the 429 of a check for which there was nothing in the bucket."""
    if taken and not taken.allowed:
        raise Problem(
            f"More than {taken.limit} checks a second, and nothing was done of this. Wait as "
            "long as Retry-After says, or ask an admin for a token that may ask more.",
            code="too_many_checks",
            status=429,
        )


def limit_headers(taken: Taken | None) -> dict[str, str]:
    """What an answer tells of its token's limit."""
    if taken is None:
        return {}
    wait = str(math.ceil(taken.wait))
    headers = {
        "RateLimit-Limit": str(taken.limit),
        "RateLimit-Remaining": str(taken.remaining),
        "RateLimit-Reset": wait,
    }
    return headers if taken.allowed else {**headers, "Retry-After": wait}


def refused(token: UUID) -> int:
    """How many checks of a token were refused on this machine."""
    buckets = _buckets()
    return buckets.refused(token) if buckets else 0


def _bucket_of(actor: Actor) -> tuple[UUID, int]:
    if actor.token is not None:
        return actor.token.pk, actor.token.checks_per_second
    return actor.person.pk, CHECKS_PER_SECOND


@lru_cache(maxsize=1)
def _buckets() -> Buckets | None:
    """In the machine's own folder for such things: the data folder may be shared and far away."""
    name = hashlib.sha256(str(settings.DATA_DIR).encode()).hexdigest()[:16]
    try:
        return Buckets(Path(tempfile.gettempdir()) / f"parapet-{name}.limits")
    except OSError as error:
        logger.error("checks_unlimited", extra={"error": str(error)})
        return None
