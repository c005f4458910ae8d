"""manage.py up: the database, the web server, two Celery workers and beat, on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from django.core.management.base import BaseCommand, CommandError

from guardrails_site import embedded, runtime

RESTART_AFTER_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
RAN_WELL_SECONDS = 20.0
STOP_WITHIN_SECONDS = 20
LOCAL = ("127.0.0.1", "0.0.0.0", "::", "::1")  # noqa: S104


class Command(BaseCommand):
    help = (
        "Start everything; Ctrl-C stops everything. Honours PORT, HOST, DATABASE_URL, "
        "CELERY_BROKER_URL and PARAPET_DATA_DIR."
    )
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        running = alive()
        if running:
            self.stdout.write(f"Parapet runs already at {running['address']}")
            self.stdout.write(f"(process {running['pid']}; Ctrl-C there stops it)")
            return
        host, port = os.environ.get("HOST", "127.0.0.1"), _port()
        _port_is_free(host, port)
        owner_url = database()
        if not os.environ.get("DATABASE_URL") and embedded.is_root():
            self.stdout.write(
                "You are root: PostgreSQL runs as the system user pgserver, and the folders above "
                "its data were opened for traversal. A normal user needs neither."
            )
        application_url = prepare(owner_url)
        # under the name that is always among the allowed hosts
        address = f"http://{'localhost' if host in LOCAL else host}:{port}"
        environment = {
            **os.environ,
            "DATABASE_URL": application_url,
            "PARAPET_URL": os.environ.get("PARAPET_URL") or address,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        supervisor = Supervisor(services(host, port), environment)
        _write_running(address, owner_url, application_url)
        try:
            supervisor.start(host, port)
            self.stdout.write(self.style.SUCCESS(f"Parapet is at {address}   (Ctrl-C stops it)"))
            self.stdout.flush()
            supervisor.watch()
        finally:
            supervisor.stop()
            runtime.running_file().unlink(missing_ok=True)


def alive() -> dict[str, str]:
    """The record of the `up` that runs on this data folder, or {}."""
    record = runtime.running()
    try:
        process = psutil.Process(int(record["pid"]))
        if abs(process.create_time() - float(record["started"])) < 2:
            return record
    except (KeyError, ValueError, psutil.Error):
        pass
    return {}


def database() -> str:
    """The owner's URL of a database that answers; starts the embedded one if none is given."""
    import psycopg

    url = os.environ.get("DATABASE_OWNER_URL") or os.environ.get("DATABASE_URL")
    if not url:
        try:
            return embedded.start(runtime.data_dir() / "postgres")
        except Exception as error:  # the wheel raises whatever its server printed
            raise CommandError(
                f"The embedded PostgreSQL does not start ({_first_line(error)}). "
                f"Look at {runtime.data_dir() / 'postgres' / 'log'}, or set DATABASE_URL."
            ) from None
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except (psycopg.Error, ValueError) as error:
        raise CommandError(
            f"Cannot reach the database of DATABASE_URL ({_first_line(error)}). "
            "Start it or correct the URL; without DATABASE_URL Parapet brings its own."
        ) from None
    return url


def prepare(owner_url: str) -> str:
    """Migrate, collect static files, load the demo into an empty database.

    Returns the URL of the role that web and workers use.
    """
    environment = {**os.environ, "DATABASE_OWNER_URL": owner_url, "PARAPET_PROCESS": "owner"}
    done = subprocess.run(
        [sys.executable, str(runtime.BASE_DIR / "manage.py"), "prepare"],
        env=environment,
        check=False,
    )
    if done.returncode:
        raise CommandError("The database could not be prepared; the reason is above.")
    if os.environ.get("DATABASE_URL"):
        return os.environ["DATABASE_URL"]
    return embedded.application_url(owner_url)


@dataclass
class Service:
    """A process that `up` keeps running.

    Args:
        started: when it was started last, by the monotonic clock.
        pause: seconds from one start to the next at least.
    """

    name: str
    command: list[str]
    nice: int = 0
    process: subprocess.Popen[bytes] | None = None
    started: float = field(default=0.0)
    pause: float = RESTART_AFTER_SECONDS


def services(host: str, port: int) -> list[Service]:
    """What runs beside the database, the web server first."""
    granian = [
        *_module("granian"),
        "--interface=wsgi",
        f"--host={host}",
        f"--port={port}",
        f"--workers={os.environ.get('WEB_WORKERS', '2')}",
        "--blocking-threads=4",
        "--backpressure=64",
        "--respawn-failed-workers",
        "--no-ws",
        "--log-level=warning",
        "guardrails_site.wsgi:application",
    ]
    celery = [*_module("celery"), "--quiet", "-A", "guardrails_site.celery"]
    # threads, not children: a pool that loses a child as it takes a job may wait for it for ever;
    # a worker that is one process dies as a whole and is started again
    worker = [*celery, "worker", "-P", "threads", "--loglevel=WARNING"]
    worker += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    return [
        Service("web", granian),
        Service("default", [*worker, "-Q", "default", "-n", "default@%h", "-c", "2"], nice=5),
        Service("train", [*worker, "-Q", "train", "-n", "train@%h", "-c", "1"], nice=10),
        Service("beat", [*celery, "beat", "--loglevel=WARNING", "--pidfile="]),
    ]


def next_pause(pause: float, ran: float) -> float:
    """Seconds between starts: twice as long each time for what dies at once, again and again."""
    if ran > RAN_WELL_SECONDS:
        return RESTART_AFTER_SECONDS
    return min(2 * pause, LONGEST_PAUSE_SECONDS)


class Supervisor:
    """Starts services in process groups of their own, restarts what dies, stops all."""

    def __init__(self, services: list[Service], environment: Mapping[str, str]) -> None:
        self.services = services
        self.environment = environment
        self.stopping = False

    def start(self, host: str, port: int) -> None:
        """The web server first, since somebody waits for it; the workers once it answers."""
        signal.signal(signal.SIGTERM, self._ask_to_stop)
        signal.signal(signal.SIGINT, self._ask_to_stop)
        web, *others = self.services
        self._launch(web)
        _wait_for(host, port)
        for service in others:
            self._launch(service)

    def watch(self) -> None:
        """Return when somebody asks to stop."""
        while not self.stopping:
            for service in self.services:
                process = service.process
                if process is None or process.poll() is None or self.stopping:
                    continue
                _signal_group(process, signal.SIGKILL)  # what a dead parent left behind
                if time.monotonic() - service.started > service.pause:
                    print(f"{service.name} ended ({process.returncode}); it starts again")
                    self._launch(service)
            time.sleep(0.2)

    def stop(self) -> None:
        for service in self.services:
            if service.process is not None:
                _signal_group(service.process, signal.SIGTERM, whole=False)
        deadline = time.monotonic() + STOP_WITHIN_SECONDS
        for service in self.services:
            if service.process is None:
                continue
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(service.process, signal.SIGKILL)
            service.process.wait()

    def _launch(self, service: Service) -> None:
        now = time.monotonic()
        if service.process is not None:
            service.pause = next_pause(service.pause, now - service.started)
        service.started = now
        service.process = subprocess.Popen(
            ["nice", "-n", str(service.nice), *service.command]
            if service.nice
            else service.command,
            env={**self.environment, "PARAPET_PROCESS": service.name},
            cwd=runtime.BASE_DIR,
            # not a session: Linux weighs sessions alike, so `nice` would only hold inside each
            process_group=0,
        )

    def _ask_to_stop(self, *_: Any) -> None:
        self.stopping = True


def _signal_group(process: subprocess.Popen[bytes], number: int, *, whole: bool = True) -> None:
    try:
        if whole:
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass


def _module(name: str) -> list[str]:
    return [sys.executable, "-W", "ignore", "-m", name]


def _port() -> int:
    try:
        return int(os.environ.get("PORT", "8000"))
    except ValueError:
        raise CommandError("PORT must be a number, for example PORT=8000.") from None


def _port_is_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise CommandError(
                f"Port {port} is taken by another program; choose another: PORT={port + 1} make run"
            ) from None


def _wait_for(host: str, port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, port)) == 0:
                return
        time.sleep(0.05)


def _write_running(address: str, owner_url: str, application_url: str) -> None:
    path: Path = runtime.running_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(
        json.dumps(
            {
                "pid": os.getpid(),
                "started": psutil.Process().create_time(),
                "address": address,
                "database_url": application_url,
                "database_owner_url": owner_url,
            }
        )
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
