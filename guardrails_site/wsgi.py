"""The web application granian serves."""

import gc
import os
import sys

from django.core.wsgi import get_wsgi_application
from django.urls import get_resolver

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "guardrails_site.settings")
os.environ.setdefault("PARAPET_PROCESS", "web")

# a check waits for its turn among the threads of this process; the default turn of 5 ms is longer
# than most checks take
sys.setswitchinterval(0.001)

application = get_wsgi_application()
get_resolver().url_patterns  # noqa: B018  # loads every view, before the first request asks

# what is loaded stays: the collector need not walk it while somebody waits for an answer
gc.freeze()
