"""What a fresh machine needs before the console can run. Doing it twice changes nothing.

<data-dir>/                 0700
  member/                   the member's own directory
  console/secret-key        0600, signs sessions
  console/encryption-key    0600, opens stored passwords and client keys
  console/console.sqlite3   accounts, connections, audit; no secret in the clear
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from django.conf import settings
from django.core.management import call_command

from console.clusters.secrets import create_key, write_secret
from console.models import Account, Cluster

ADMIN = "admin"
LOCAL = "local"


def create_files(data_dir: Path, console_dir: Path) -> None:
    for directory in (data_dir, console_dir):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The key this process runs with becomes the one that stays.
    write_secret(settings.SECRET_KEY_FILE, settings.SECRET_KEY)
    create_key(settings.ENCRYPTION_KEY_FILE)


def migrate() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    database = settings.DATABASES["default"]
    if "sqlite3" in database["ENGINE"] and Path(database["NAME"]).exists():
        Path(database["NAME"]).chmod(0o600)


def bootstrap_admin() -> str | None:
    """Create `admin` when there is no account at all; its password, or None."""
    if Account.objects.exists():
        return None
    password = secrets.token_urlsafe(15)
    Account.objects.create(ADMIN, password, is_admin=True)
    return password


def register_connection(name: str, endpoints: Sequence[str]) -> Cluster:
    """The connection to the cluster this start is about. One an admin edited keeps the edits,
    only its endpoints follow the command line."""
    text = "\n".join(endpoints)
    cluster, is_new = Cluster.objects.get_or_create(
        slug=LOCAL, defaults={"name": name, "endpoints": text, "colour": "teal"}
    )
    if not is_new and cluster.endpoints != text:
        cluster.endpoints = text
        cluster.save()
    return cluster
