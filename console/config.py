"""Reading the console's configuration from environment and files. No Django in here."""

import os
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def flag(name: str) -> bool:
    """True when the variable says yes; absent, empty, 0, no, false and off say no."""
    return os.environ.get(name, "").strip().lower() not in {"", "0", "no", "false", "off"}


def listed(name: str, default: str) -> list[str]:
    """A comma-separated variable as a list without empty words."""
    return [word.strip() for word in os.environ.get(name, default).split(",") if word.strip()]


def read_or_random(path: Path) -> str:
    """The secret in the file, or a fresh one that lives as long as this process."""
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return secrets.token_urlsafe(64)


SCHEMES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "mysql": "django.db.backends.mysql",
}


def database_from_url(url: str | None, directory: Path) -> dict[str, Any]:
    """Django's database settings: SQLite in `directory` unless `url` names something else."""
    if not url:
        return sqlite(directory / "console.sqlite3")
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(parts.path)))
    if parts.scheme not in SCHEMES:
        known = ", ".join(["sqlite", *SCHEMES])
        raise ValueError(f"KEYDECK_DATABASE_URL: unknown scheme {parts.scheme!r}, use {known}")
    return {
        "ENGINE": SCHEMES[parts.scheme],
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
    }


def sqlite(path: Path) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "OPTIONS": {
            # Writers queue for the lock at BEGIN instead of failing at their first write.
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
        },
    }
