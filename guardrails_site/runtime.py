"""Where this installation keeps its files, and where its database is.

No Django here: settings.py, the embedded database and the tests all ask this module.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """The folder for everything that must survive a restart (default: var/)."""
    return Path(os.environ.get("PARAPET_DATA_DIR") or BASE_DIR / "var").resolve()


def running_file() -> Path:
    """What a running `manage.py up` says of itself: pid, address, database."""
    return data_dir() / "running.json"


def running() -> dict[str, str]:
    """The record of the last `up`, or {} when there is none."""
    try:
        record: dict[str, str] = json.loads(running_file().read_text())
    except (OSError, ValueError):
        return {}
    return record


def database_url(*, owner: bool = False) -> str:
    """The database of this process: DATABASE_URL, else what `manage.py up` started.

    Args:
        owner: the role that owns the tables (migrations, erasing), not the application's role.

    Returns "" when there is neither.
    """
    if owner and os.environ.get("DATABASE_OWNER_URL"):
        return os.environ["DATABASE_OWNER_URL"]
    if os.environ.get("DATABASE_URL"):
        return os.environ["DATABASE_URL"]
    return running().get("database_owner_url" if owner else "database_url", "")


def secret_key() -> str:
    """SECRET_KEY from the environment, else a random one kept in the data folder."""
    if os.environ.get("SECRET_KEY"):
        return os.environ["SECRET_KEY"]
    return kept_secret("secret_key")


def kept_secret(name: str) -> str:
    """A random secret of this installation, made on first use, readable by its user only."""
    path = data_dir() / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f"{name}.{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_urlsafe(48))
        try:
            os.link(draft, path)  # whoever comes second takes the first one's secret
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text()
