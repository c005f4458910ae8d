"""The Celery application: two workers (`train` and the rest) and beat."""

from __future__ import annotations

import gc
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from celery import Celery
from celery.signals import worker_init
from django.conf import settings
from kombu.transport import filesystem
from kombu.utils.json import dumps

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardrails_site.settings")


class WholeMessages(filesystem.Channel):  # type: ignore[misc]
    """The file broker, with messages that appear as a whole.

    kombu writes a message where workers already look for it; one that came between got an empty
    file and died of it.
    """

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]
        number = uuid.uuid4()
        folder = Path(self.data_folder_out)
        draft = folder / f"{number}.part"
        draft.write_bytes(dumps(message).encode())
        draft.rename(folder / f"{round(time.monotonic() * 1000)}_{number}.{queue}.msg")


filesystem.Transport.Channel = WholeMessages

app = Celery("parapet")


def _broker() -> dict[str, Any]:
    if not settings.CELERY_BROKER_URL.startswith("filesystem:"):
        return {"visibility_timeout": 1800}
    folder = settings.BROKER_DIR
    for name in ("messages", "control"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return {
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
        "store_processed": False,
        "polling_interval": 0.1,
    }


def _every(seconds: float, task: str) -> dict[str, Any]:
    """A beat entry; one that no worker took before the next comes is not done any more."""
    return {"task": task, "schedule": seconds, "options": {"expires": seconds}}


app.conf.update(
    broker_url=settings.CELERY_BROKER_URL,
    broker_transport_options=_broker(),
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    result_accept_content=["json"],
    task_ignore_result=True,
    worker_hijack_root_logger=False,
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_max": 0.2},
    task_default_queue="default",
    task_routes={"apps.training.tasks.train": {"queue": "train"}},
    timezone="UTC",
    beat_schedule_filename=str(settings.DATA_DIR / "beat-schedule"),
    beat_schedule={
        "sweep": _every(5.0, "apps.training.tasks.sweep"),
        "canaries": _every(60.0, "apps.runtime.tasks.send_canaries"),
        "expired": _every(600.0, "apps.runtime.tasks.delete_expired"),
    },
)
app.autodiscover_tasks()


@worker_init.connect
def get_ready(sender: Any, **_: Any) -> None:
    # a job's answers from PostgreSQL wait for their turn among the threads of this process
    sys.setswitchinterval(0.001)
    if settings.PROCESS == "train":
        import apps.training.pipeline  # noqa: F401  # scikit-learn, before the first run asks for it
    # what is loaded stays: the collector need not walk it, nor copy its pages into forks
    gc.freeze()
