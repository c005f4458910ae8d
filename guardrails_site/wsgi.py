"""The web application granian serves."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardrails_site.settings")
os.environ.setdefault("PARAPET_PROCESS", "web")

application = get_wsgi_application()
