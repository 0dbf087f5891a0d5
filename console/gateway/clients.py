"""One client a connection and person, shared by every page that asks it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from django.conf import settings

from console.clusters.own import OwnSignIn, password_of
from console.clusters.secrets import decrypt
from console.models import Cluster
from kvserver.client import Client, ClientConfig, Endpoint


@dataclass(slots=True)
class _Kept:
    stamp: object
    client: Client
    used_at: float


class Clients:
    """One shared `Client` a connection, made anew when the connection was changed. Where people
    sign in as themselves each has a client of one's own, dropped when they sign out."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[tuple[int, OwnSignIn | None], _Kept] = {}

    def of(self, cluster: Cluster) -> Client:
        now = time.monotonic()
        with self._lock:
            kept = self._clients.get((cluster.pk, cluster.own))
            if kept is None or kept.stamp != cluster.changed_at:
                if kept is not None:
                    kept.client.close()
                self._drop_unused(now)
                kept = _Kept(cluster.changed_at, Client(client_config(cluster)), now)
                self._clients[cluster.pk, cluster.own] = kept
            kept.used_at = now
            return kept.client

    def forget(self, cluster: Cluster) -> None:
        """Drop what holds this person's password. A call under way ends in peace."""
        with self._lock:
            self._clients.pop((cluster.pk, cluster.own), None)

    def _drop_unused(self, now: float) -> None:
        """Of sessions that have ended since: nobody signed out of them."""
        for key, kept in list(self._clients.items()):
            if key[1] is not None and now - kept.used_at > settings.SESSION_COOKIE_AGE:
                del self._clients[key]

    def close(self) -> None:
        with self._lock:
            for kept in self._clients.values():
                kept.client.close()
            self._clients.clear()


clients = Clients()


def client_config(cluster: Cluster) -> ClientConfig:
    return ClientConfig(
        endpoints=tuple(Endpoint.parse(text) for text in cluster.endpoint_list),
        tls_ca=cluster.tls_ca.encode() or None,
        tls_certificate=cluster.tls_certificate.encode() or None,
        tls_key=decrypt(cluster.tls_key_encrypted).encode() or None,
        tls_server_name=cluster.tls_server_name or None,
        user=cluster.user_name or None,
        password=password_of(cluster) or None,
    )


def check_endpoint(text: str) -> str:
    """The endpoint in its one spelling; ValueError says what is wrong with it."""
    return str(Endpoint.parse(text))
