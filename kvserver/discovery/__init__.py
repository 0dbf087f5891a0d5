"""Who founds the cluster, where the flags do not say it themselves (spec/cluster.md §8).

`--discovery-srv` asks DNS (`srv.py`), `--discovery-endpoints` another cluster (`registry.py`).
Both block, so they run before there is an event loop: a signal simply ends the process. A data
directory that holds a member already asks nobody.
"""

from __future__ import annotations

import dataclasses

from kvserver.config import Config
from kvserver.discovery.registry import Registry, client_config, register_and_wait
from kvserver.discovery.srv import SrvLookup, SystemDns, cluster_from_srv
from kvserver.errors import FatalError
from kvserver.logs import Logger
from kvserver.resolving import Resolve, resolve_host


def discover(
    config: Config,
    log: Logger,
    *,
    lookup: SrvLookup | None = None,
    resolve: Resolve = resolve_host,
) -> Config:
    """The configuration with the founding members in it. Raises `FatalError`."""
    if config.discovery_srv:
        return _by_srv(config, log, lookup or SystemDns(), resolve)
    if config.discovery_endpoints:
        return _by_registry(config, log)
    return config


def _by_srv(config: Config, log: Logger, lookup: SrvLookup, resolve: Resolve) -> Config:
    cluster = cluster_from_srv(
        config.name,
        config.discovery_srv,
        config.discovery_srv_name,
        config.initial_advertise_peer_urls,
        lookup,
        resolve,
        log.warn,
    )
    for name, urls in cluster.items():
        log.info(
            "got bootstrap from DNS for etcd-server",
            node=",".join(f"{name}={url}" for url in urls),
        )
    if config.name not in cluster:
        raise FatalError(f'cannot find local etcd member "{config.name}" in SRV records')
    return dataclasses.replace(config, initial_cluster=cluster)


def _by_registry(config: Config, log: Logger) -> Config:
    token = config.discovery_token
    registry = Registry(client_config(config), token, config.discovery_request_timeout, log.warn)
    log.info(
        "bootstrapping cluster using v3 discovery",
        discovery_token=token,
        discovery_endpoints=list(config.discovery_endpoints),
    )
    try:
        cluster = register_and_wait(
            registry, config.name, config.initial_advertise_peer_urls, token, log.info
        )
    finally:
        registry.close()
    return dataclasses.replace(config, initial_cluster=cluster, initial_cluster_token=token)
