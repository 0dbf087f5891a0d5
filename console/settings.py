"""Django settings of the console: safe defaults, changed by KEYDECK_* variables only.

Importing this module writes nothing and starts nothing. Secrets live in files beside the
database, never in it; `manage.py serve` creates them, and without them a process gets a
random secret that ends with it.

    KEYDECK_DATA_DIR          where everything is kept (./data)
    KEYDECK_DATABASE_URL      sqlite:///path, postgresql://..., mysql://... (SQLite in the data dir)
    KEYDECK_REDIS_URL         channel layer for several console processes (in memory)
    KEYDECK_HTTPS             1 behind TLS: secure cookies, HSTS, redirect
    KEYDECK_BEHIND_PROXY      1 when X-Forwarded-Proto comes from a proxy that sets it itself
    KEYDECK_ALLOWED_HOSTS     host names, with commas (localhost,127.0.0.1,[::1])
    KEYDECK_TRUSTED_ORIGINS   https://... origins of forms and sockets beside the host itself
    KEYDECK_SESSION_HOURS     a session ends this long after sign-in (10)
    KEYDECK_SNAPSHOT_DIR      where saved snapshots go (snapshots in the data dir)
    KEYDECK_UPLOAD_MIB        the largest backup that can be sent to the snapshot browser (2048)
    KEYDECK_SECRET_KEY, KEYDECK_ENCRYPTION_KEY   instead of the files
    KEYDECK_LOG_LEVEL         (WARNING)
    KEYDECK_MEMBER_COMMAND    what `serve` starts as the member (python -m kvserver)
    KEYDECK_DEBUG             1 for development
"""

import os
from pathlib import Path

from console.config import database_from_url, flag, listed, read_or_random

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(os.environ.get("KEYDECK_DATA_DIR", BASE_DIR / "data")).resolve()
CONSOLE_DIR = DATA_DIR / "console"
SNAPSHOT_DIR = Path(os.environ.get("KEYDECK_SNAPSHOT_DIR", DATA_DIR / "snapshots")).resolve()

SECRET_KEY_FILE = CONSOLE_DIR / "secret-key"
ENCRYPTION_KEY_FILE = CONSOLE_DIR / "encryption-key"
SECRET_KEY = os.environ.get("KEYDECK_SECRET_KEY") or read_or_random(SECRET_KEY_FILE)

DEBUG = flag("KEYDECK_DEBUG")
HTTPS = flag("KEYDECK_HTTPS")
ALLOWED_HOSTS = listed("KEYDECK_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1]")
CSRF_TRUSTED_ORIGINS = listed("KEYDECK_TRUSTED_ORIGINS", "")

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "django_htmx",
    "console",
]

MIDDLEWARE = [
    "console.middleware.SecurityHeadersMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "console.middleware.StaticFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "console.middleware.AccessMiddleware",
    "console.errors.ErrorPagesMiddleware",
]

ROOT_URLCONF = "console.urls"
APPEND_SLASH = False
ASGI_APPLICATION = "console.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": False,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.shell.context",
            ],
            "libraries": {
                "console": "console.templatetags.console",
                "users": "console.templatetags.users",
                "django_htmx": "django_htmx.templatetags.django_htmx",
            },
            "builtins": ["django.templatetags.static", "console.templatetags.console"],
        },
    }
]

DATABASES = {"default": database_from_url(os.environ.get("KEYDECK_DATABASE_URL"), CONSOLE_DIR)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("KEYDECK_REDIS_URL")
CHANNEL_LAYERS = {
    "default": (
        {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [REDIS_URL]},
        }
        if REDIS_URL
        else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    )
}

AUTH_USER_MODEL = "console.Account"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 10},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ["username"]},
    },
]
LOGIN_URL = "login"

# A session ends this long after sign-in, whatever happens in between.
SESSION_COOKIE_AGE = int(float(os.environ.get("KEYDECK_SESSION_HOURS", "10")) * 3600)
SESSION_COOKIE_NAME = "keydeck_session"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = HTTPS
CSRF_COOKIE_NAME = "keydeck_csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = HTTPS
CSRF_FAILURE_VIEW = "console.errors.csrf_failure"
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"

SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
SECURE_HSTS_PRELOAD = HTTPS
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
if flag("KEYDECK_BEHIND_PROXY"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# A value of a key may be 1.5 MiB by default; a conflict page carries it more than once.
DATA_UPLOAD_MAX_MEMORY_SIZE = 16 * 1024 * 1024

# Of a backup that is opened in the console; etcd advises against databases of more than 8 GiB.
UPLOAD_BYTES_MAX = int(os.environ.get("KEYDECK_UPLOAD_MIB", "2048")) * 1024 * 1024

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "console.statics.FingerprintedStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = DEBUG
WHITENOISE_ALLOW_ALL_ORIGINS = False

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": os.environ.get("KEYDECK_LOG_LEVEL", "WARNING")},
}
