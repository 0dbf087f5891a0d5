"""How this member's cluster comes to be where the disk holds none (spec/cluster.md §2)."""

from __future__ import annotations

from kvserver.bootstrap import Founding
from kvserver.config import Config
from kvserver.errors import FatalError
from kvserver.peers.joining import join, refuse_if_bootstrapped
from kvserver.peers.tls import DialTls


def founding_of(config: Config, tls: DialTls | None) -> Founding:
    """What the flags say about it; nobody is asked before the disk has been looked at."""
    cluster = {name: tuple(urls) for name, urls in config.initial_cluster.items()}
    urls = tuple(config.initial_cluster.get(config.name, config.initial_advertise_peer_urls))
    others = [url for name, known in cluster.items() if name != config.name for url in known]
    joins = config.initial_cluster_state == "existing"
    return Founding(
        config.name,
        urls,
        config.initial_cluster_token,
        cluster,
        join=(lambda: join(config.name, cluster, tls)) if joins else None,
        check=(lambda number: refuse_if_bootstrapped(number, others, tls)) if others else None,
        validate=lambda: refuse_contradictions(config),
        is_forced=config.force_new_cluster,
    )


def refuse_contradictions(config: Config) -> None:
    """This member and its peer URLs must be in the initial cluster (spec/cluster.md §2.1)."""
    if config.name not in config.initial_cluster:
        raise FatalError(
            f"couldn't find local name {config.name!r} in the initial cluster configuration"
        )
    everybodys = [url for urls in config.initial_cluster.values() for url in urls]
    if len(set(everybodys)) != len(everybodys):
        shown = ",".join(f"{n}={u}" for n, urls in config.initial_cluster.items() for u in urls)
        raise FatalError(f"initial cluster {shown} has duplicate url")
    urls = tuple(config.initial_cluster[config.name])
    if sorted(urls) != sorted(config.initial_advertise_peer_urls):
        raise FatalError(
            f"--initial-cluster has {config.name}={','.join(urls)} but missing from "
            f"--initial-advertise-peer-urls={','.join(config.initial_advertise_peer_urls)}"
        )
