"""How this member's cluster comes to be where the disk holds none (spec/cluster.md §2)."""

from __future__ import annotations

from collections.abc import Iterable

from kvserver.bootstrap import Founding
from kvserver.config import Config
from kvserver.errors import FatalError
from kvserver.peers.joining import join, refuse_if_bootstrapped
from kvserver.peers.tls import DialTls
from kvserver.resolving import Resolve, resolve_host, resolved_url


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


def refuse_contradictions(config: Config, resolve: Resolve = resolve_host) -> None:
    """This member and its peer URLs must be in the initial cluster (spec/cluster.md §2.1)."""
    cluster = config.initial_cluster
    if config.name not in cluster:
        raise FatalError(
            f'couldn\'t find local name "{config.name}" in the initial cluster configuration'
        )
    everybodys = [url for urls in cluster.values() for url in urls]
    if len(set(everybodys)) != len(everybodys):
        shown = ",".join(f"{name}={url}" for name in sorted(cluster) for url in cluster[name])
        raise FatalError(f"initial cluster {shown} has duplicate url")
    _match(config.name, cluster[config.name], config.initial_advertise_peer_urls, resolve)


def _match(name: str, listed: Iterable[str], advertised: Iterable[str], resolve: Resolve) -> None:
    """Compared as they are written, then by the addresses that they resolve to."""
    ours, told = sorted(listed), sorted(advertised)
    if ours == told:
        return
    resolved = sorted(resolved_url(url, resolve) for url in ours)
    resolved_told = sorted(resolved_url(url, resolve) for url in told)
    if resolved == resolved_told:
        return
    missing = [f"{name}={url}" for url in ours if url not in told]
    if missing:
        raise FatalError(
            f"--initial-cluster has {','.join(missing)} but missing from "
            f"--initial-advertise-peer-urls={','.join(told)} "
            f"({_difference(told, ours, resolved_told, resolved)})"
        )
    more = ",".join(url for url in told if url not in ours)
    shown = ",".join(f"{name}={url}" for url in ours)
    raise FatalError(
        f"--initial-advertise-peer-urls has {more} but missing from --initial-cluster={shown}"
    )


def _difference(
    told: list[str], ours: list[str], resolved_told: list[str], resolved: list[str]
) -> str:
    """The first place where two sorted lists are not the same; one of unequal length says so."""
    if len(told) != len(ours):
        return f"len([{_quoted(told)}]) != len([{_quoted(ours)}])"
    for a, b, was_a, was_b in zip(resolved_told, resolved, told, ours, strict=True):
        if a != b:
            return f'"{a}"(resolved from "{was_a}") != "{b}"(resolved from "{was_b}")'
    raise AssertionError("two equal lists have no difference")


def _quoted(urls: Iterable[str]) -> str:
    return " ".join(f'"{url}"' for url in urls)
