"""One client a connection, shared by every page that asks it."""

from __future__ import annotations

import threading

from console.clusters.secrets import decrypt
from console.models import Cluster
from kvserver.client import Client, ClientConfig, Endpoint


class Clients:
    """One shared `Client` a connection, made anew when the connection was changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clients: dict[int, tuple[object, Client]] = {}

    def of(self, cluster: Cluster) -> Client:
        with self._lock:
            stamp, client = self._clients.get(cluster.pk, (None, None))
            if client is None or stamp != cluster.changed_at:
                if client is not None:
                    client.close()
                client = Client(client_config(cluster))
                self._clients[cluster.pk] = (cluster.changed_at, client)
            return client

    def close(self) -> None:
        with self._lock:
            for _, client in self._clients.values():
                client.close()
            self._clients.clear()


clients = Clients()


def client_config(cluster: Cluster) -> ClientConfig:
    return ClientConfig(
        endpoints=tuple(Endpoint.parse(text) for text in cluster.endpoint_list),
        tls_ca=cluster.tls_ca.encode() or None,
        tls_certificate=cluster.tls_certificate.encode() or None,
        tls_key=decrypt(cluster.tls_key_encrypted).encode() or None,
        tls_server_name=cluster.tls_server_name or None,
        user=cluster.etcd_user or None,
        password=decrypt(cluster.etcd_password_encrypted) or None,
    )


def check_endpoint(text: str) -> str:
    """The endpoint in its one spelling; ValueError says what is wrong with it."""
    return str(Endpoint.parse(text))
