"""Where a cluster is and how to speak to it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One client address of one member: `http://host:port` or `https://host:port`."""

    host: str
    port: int
    is_tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `http://host:port`, `https://host:port` or `host:port`; ValueError says what is
        wrong with anything else."""
        url = text.strip() if "://" in text else f"http://{text.strip()}"
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"}:
            raise ValueError(f"{text!r}: use http:// or https://")
        if not parts.hostname:
            raise ValueError(f"{text!r}: no host")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
            raise ValueError(f"{text!r}: only scheme, host and port belong here")
        try:
            port = parts.port
        except ValueError:
            raise ValueError(f"{text!r}: the port is not a number from 1 to 65535") from None
        return cls(parts.hostname, 2379 if port is None else port, parts.scheme == "https")

    @property
    def target(self) -> str:
        """The name gRPC dials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.is_tls else 'http'}://{self.target}"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Everything a `Client` needs; PEM texts, not file names."""

    endpoints: tuple[Endpoint, ...]
    tls_ca: bytes | None = None
    tls_certificate: bytes | None = None
    tls_key: bytes | None = None
    tls_server_name: str | None = None
    user: str | None = None
    password: str | None = None
    connect_seconds: float = 2.0
    """How long an endpoint may take to show that it is there."""
    keepalive_seconds: float = 30.0
    keepalive_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("a cluster needs at least one endpoint")
