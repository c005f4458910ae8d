"""What somebody unknown sends is not read, and written nowhere."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from guardrails_site.middleware import LARGEST_FORM, LARGEST_UNKNOWN
from tests import factories

pytestmark = pytest.mark.django_db
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"


class Untouched:
    """A body that must not be read."""

    def read(self, *_: Any) -> bytes:
        raise AssertionError("It was read.")

    readline = read


def send(
    path: str, kind: str, length: int, client: Client | None = None, *, body: Any = None
) -> Any:
    caller = client or Client(enforce_csrf_checks=True)
    caller.cookies["csrftoken"] = "a" * 32
    head = {"CONTENT_TYPE": kind, "CONTENT_LENGTH": str(length)}
    return caller.generic("POST", path, **head, **{"wsgi.input": body or Untouched()})


@pytest.mark.parametrize("kind", [FORM, MULTIPART])
@pytest.mark.parametrize("path", ["/policies/doses/edit/", "/playground/", "/password/"])
def test_the_form_of_somebody_unknown_is_not_read(path: str, kind: str) -> None:
    answer = send(path, kind, 1_000)
    assert (answer.status_code, answer["Location"].split("?")[0]) == (302, "/sign-in/")


def test_an_import_without_a_token_is_not_read() -> None:
    assert send("/api/v1/imports?policy=doses&source=s", MULTIPART, 1_000).status_code == 401


@pytest.mark.parametrize("kind", [FORM, MULTIPART])
def test_signing_in_takes_a_short_form_only(kind: str) -> None:
    assert send("/sign-in/", kind, LARGEST_UNKNOWN + 1).status_code == 413


def test_a_person_sends_no_larger_form_than_a_file_may_be() -> None:
    client = factories.page_client(factories.make_member(factories.make_workspace()))
    assert send("/password/", MULTIPART, LARGEST_FORM + 1, client).status_code == 413


def test_who_never_ends_a_form_holds_one_thread() -> None:
    ended, reading = Event(), Event()

    class Endless(Untouched):
        def read(self, *_: Any) -> bytes:
            reading.set()
            ended.wait(30)
            return b""

        readline = read

    first = Thread(target=send, args=("/sign-in/", FORM, 100), kwargs={"body": Endless()})
    first.start()
    try:
        assert reading.wait(10)
        refused = send("/sign-in/", FORM, 100)
        served = Client().get("/sign-in/")
    finally:
        ended.set()
        first.join()
    assert (refused.status_code, served.status_code) == (503, 200)


def test_files_of_imports_are_for_their_user_alone() -> None:
    admin = factories.make_member(factories.make_workspace())
    policy = factories.make_policy(admin)
    job = factories.upload(admin, policy, b'{"output": "hello"}')
    files = [*Path(settings.UPLOAD_DIR).glob(f"*{job.pk}*")]
    assert files
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
