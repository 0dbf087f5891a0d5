"""A person's own etcd credentials, where a connection asks for them.

They are kept for the session only: encrypted in it, so that the database never holds them in
clear, and gone with it. `Cluster.own` carries them on the way from the session to the client.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from console.clusters.secrets import SecretLost, decrypt, encrypt

if TYPE_CHECKING:
    from console.models import Cluster

PREFIX = "etcd:"


@dataclass(frozen=True, slots=True)
class OwnSignIn:
    """Compared as a whole: another password is another sign-in."""

    user: str
    password: str = field(repr=False)


def remember(session: Any, cluster: Cluster, own: OwnSignIn) -> None:
    session[f"{PREFIX}{cluster.pk}"] = encrypt(
        json.dumps([own.user, own.password, cluster.changed_at.isoformat()])
    )


def recall(session: Any, cluster: Cluster) -> OwnSignIn | None:
    """Who signed in to this cluster in this session, if anybody did."""
    try:
        stored = decrypt(session.get(f"{PREFIX}{cluster.pk}", ""))
    except SecretLost:
        return None
    if not stored:
        return None
    user, password, changed_at = json.loads(stored)
    # A password that was given to one address is not handed to another.
    return OwnSignIn(user, password) if changed_at == cluster.changed_at.isoformat() else None


def forget(session: Any, cluster: Cluster) -> None:
    session.pop(f"{PREFIX}{cluster.pk}", None)


def password_of(cluster: Cluster) -> str:
    """What goes with `cluster.user_name`."""
    if cluster.asks_sign_in:
        return cluster.own.password if cluster.own else ""
    return decrypt(cluster.etcd_password_encrypted)
