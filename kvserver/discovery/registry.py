"""The founding members by way of another cluster (v3 discovery, spec/cluster.md §8.2).

An operator has put the size of the cluster there; every member puts itself beside it and waits for
the others. Those that came first, by create revision, are the cluster; whoever comes later is told
that it is full. Registering is a put of always the same bytes, so repeating one whose outcome is
unknown changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kvserver.client import CallFailed, Client, ClientConfig, Endpoint
from kvserver.client.follow import Events, Follow, Resuming
from kvserver.config import Config, ConfigError
from kvserver.config.complete import parse_initial_cluster
from kvserver.discovery.unverified import trust_whoever_is_there
from kvserver.errors import FatalError
from kvserver.membership.ids import format_id, member_id
from kvserver.proto import kv_pb2, rpc_pb2

ROOT = "/_etcd/registry"
RETRY_DOUBLINGS_MAX = 8
KEEPALIVE_SECONDS_MIN = 10.0
"""Of a gRPC client: pings closer than that cost the connection (spec/wire-api.md §3.3)."""
Tell = Callable[..., None]
T = TypeVar("T")


class Registry:
    """The keys of one discovery token. Blocks; a cluster that does not answer is asked again."""

    def __init__(
        self,
        config: ClientConfig,
        token: str,
        request_seconds: float,
        warn: Tell,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._client = Client(config)
        self._prefix = f"{ROOT}/{token}"
        self._request_seconds = request_seconds
        self._warn = warn
        self._pause = pause or threading.Event().wait

    def close(self) -> None:
        self._client.close()

    def size(self) -> int:
        """How many members the cluster is to have."""
        request = rpc_pb2.RangeRequest(key=f"{self._prefix}/_config/size".encode())
        answer = self._until_answered(lambda: self._read(request))
        if not answer.kvs:
            raise FatalError("discovery: size key not found")
        try:
            size = int(answer.kvs[0].value)
        except ValueError:
            size = 0
        if size <= 0:
            raise FatalError("discovery: size key is bad")
        return size

    def members(self) -> tuple[list[Any], int]:
        """(key-values in the order of registration, the revision they are of)."""
        request = rpc_pb2.RangeRequest(
            key=self._members_prefix,
            range_end=_after(self._members_prefix),
            sort_target=rpc_pb2.RangeRequest.CREATE,
            sort_order=rpc_pb2.RangeRequest.ASCEND,
        )
        answer = self._until_answered(lambda: self._read(request))
        return list(answer.kvs), answer.header.revision

    def register(self, number: int, contents: str) -> None:
        request = rpc_pb2.PutRequest(key=self.key_of(number), value=contents.encode())
        self._until_answered(
            lambda: self._client.write(lambda stubs: stubs.kv.Put, request, self._request_seconds)
        )

    def newcomers(self, revision: int) -> Iterable[Any]:
        """Key-values registered after `revision`, as they come."""
        request = rpc_pb2.WatchCreateRequest(
            key=self._members_prefix, range_end=_after(self._members_prefix)
        )
        follow = Follow(self._client, request, start=revision + 1)
        try:
            for item in follow:
                if isinstance(item, Resuming):
                    self._warn("waiting for members is interrupted", error=str(item.why))
                elif isinstance(item, Events):
                    for event in item.events:
                        is_new = event.kv.create_revision == event.kv.mod_revision
                        if event.type == kv_pb2.Event.PUT and is_new:
                            yield event.kv
        except CallFailed as failure:
            raise FatalError(f"discovery failed: {failure}") from None
        finally:
            follow.close()

    def key_of(self, number: int) -> bytes:
        return self._members_prefix + format_id(number).encode()

    @property
    def _members_prefix(self) -> bytes:
        return f"{self._prefix}/members/".encode()

    def _read(self, request: rpc_pb2.RangeRequest) -> Any:
        return self._client.read(lambda stubs: stubs.kv.Range, request, self._request_seconds)

    def _until_answered(self, ask: Callable[[], T]) -> T:
        """For as long as it takes: members of a cluster are started together, and the registry
        perhaps with them."""
        attempt = 0
        while True:
            try:
                return ask()
            except CallFailed as failure:
                seconds = float(2 ** min(attempt, RETRY_DOUBLINGS_MAX))
                self._warn(
                    "discovery cannot reach its endpoints; it tries again",
                    retry_seconds=seconds,
                    error=str(failure),
                )
            attempt += 1
            self._pause(seconds)


def register_and_wait(
    registry: Registry, name: str, urls: Iterable[str], token: str, tell: Tell
) -> Mapping[str, tuple[str, ...]]:
    """The cluster, by name, once as many have registered as it is to have. Raises `FatalError` for
    one that has no room for us."""
    urls = tuple(urls)
    number = member_id(urls, token)
    own, size = registry.key_of(number), registry.size()
    members, _ = registry.members()
    if own not in _keys(members[:size]):
        if len(members) >= size:
            raise FatalError("discovery: cluster is full")
        registry.register(number, ",".join(f"{name}={url}" for url in urls))
    members, revision = registry.members()
    members = members[:size]
    tell("found peers from discovery service", found_peers=len(members), size=size)
    if len(members) < size:
        for newcomer in registry.newcomers(revision):
            if newcomer.key not in _keys(members):
                members.append(newcomer)
                tell("found a peer from discovery service", found_peer=newcomer.value.decode())
            if len(members) == size:
                break
    if own not in _keys(members):
        raise FatalError("discovery: cluster is full")
    return _cluster(members)


def _keys(members: Iterable[Any]) -> set[bytes]:
    return {member.key for member in members}


def _cluster(members: Iterable[Any]) -> Mapping[str, tuple[str, ...]]:
    """What the members wrote, `name=url,name=url`, checked like the flag."""
    try:
        return parse_initial_cluster(",".join(member.value.decode() for member in members))
    except (ConfigError, UnicodeDecodeError) as error:
        raise FatalError(f"discovery: what members have registered is bad: {error}") from None


def _after(prefix: bytes) -> bytes:
    """The end of the range of all keys with a prefix; ours end with a slash."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))


# -- how the registry is reached


def client_config(config: Config) -> ClientConfig:
    """From the `--discovery-…` flags. Raises `FatalError` for files that cannot be read."""
    endpoints = tuple(
        _endpoint(text, is_tls=not config.discovery_insecure_transport)
        for text in config.discovery_endpoints
    )
    authority = _read(config.discovery_cacert)
    name: str | None = None
    if config.discovery_insecure_skip_tls_verify:
        authority, name = trust_whoever_is_there(endpoints, config.discovery_dial_timeout)
    return ClientConfig(
        endpoints,
        tls_ca=authority,
        tls_certificate=_read(config.discovery_cert),
        tls_key=_read(config.discovery_key),
        tls_server_name=name,
        user=config.discovery_user or None,
        password=config.discovery_password or None,
        connect_seconds=config.discovery_dial_timeout,
        keepalive_seconds=max(config.discovery_keepalive_time, KEEPALIVE_SECONDS_MIN),
        keepalive_timeout_seconds=config.discovery_keepalive_timeout,
    )


def _endpoint(text: str, *, is_tls: bool) -> Endpoint:
    try:
        if is_tls and "://" not in text:
            text = f"https://{text}"
        return Endpoint.parse(text)
    except ValueError as error:
        raise FatalError(f"--discovery-endpoints: {error}") from None


def _read(path: str) -> bytes | None:
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FatalError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
