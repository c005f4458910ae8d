#!/usr/bin/env python
"""Parapet's command line. `manage.py up` starts everything on one machine."""

import os
import sys

# what makes tables or erases rows acts as the role that owns them
OWNER_COMMANDS = {"migrate", "prepare", "demo"}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardrails_site.settings")
    if len(sys.argv) > 1 and sys.argv[1] in OWNER_COMMANDS:
        os.environ.setdefault("PARAPET_PROCESS", "owner")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line
    from django.db import OperationalError

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        text = str(error)
        if "DATABASES" in text:
            text = "No database: start Parapet with `make run`, or set DATABASE_URL."
        sys.exit(text)
    except OperationalError as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        sys.exit(f"Cannot reach the database ({reason}). Start it, or correct DATABASE_URL.")


if __name__ == "__main__":
    main()
