"""From the values that were given to a complete `Config`: defaults, derived values, the checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from kvserver.config.config import Config
from kvserver.config.durations import parse_duration
from kvserver.config.errors import ConfigError
from kvserver.config.flags import FLAGS
from kvserver.config.validate import validate
from kvserver.config.values import check_url, resolve_gates

ANY_HOSTS = ("0.0.0.0", "::")
DEFAULT_NAME = "default"


def complete(given: Mapping[str, Any], default_host: Callable[[], str] = str) -> Config:
    """`given` by flag name. ConfigError when the values do not fit together.

    `default_host` gives the address of this machine's default route, or "".
    """
    values = {name: flag.kind.parse(flag.default) for name, flag in FLAGS.items()}
    values.update(given)
    values["feature-gates"] = resolve_gates(values["feature-gates"])
    values["data-dir"] = values["data-dir"] or f"{values['name']}.etcd"
    _fix_advertised(values, given, default_host)
    values["initial-cluster"] = _initial_cluster(values, given)
    fields = {FLAGS[name].field: value for name, value in values.items()}
    fields["auto_compaction_seconds"], fields["auto_compaction_revisions"] = _compaction(
        values["auto-compaction-mode"], values["auto-compaction-retention"]
    )
    config = Config(explicit=frozenset(given) - {"config-file"}, **fields)
    validate(config)
    return config


def _fix_advertised(
    values: dict[str, Any], given: Mapping[str, Any], default_host: Callable[[], str]
) -> None:
    """Listening everywhere while advertising only localhost helps nobody: advertise the address
    of the default route (spec/config.md §4, default-host substitution)."""
    for advertised, listened in (
        ("initial-advertise-peer-urls", "listen-peer-urls"),
        ("advertise-client-urls", "listen-client-urls"),
    ):
        anywhere = [url for url in values[listened] if urlsplit(url).hostname in ANY_HOSTS]
        if advertised in given or not anywhere:
            continue
        host = default_host()
        if host:
            shown = f"[{host}]" if ":" in host else host
            parts = urlsplit(anywhere[0])
            values[advertised] = (f"{parts.scheme}://{shown}:{parts.port}",)


def _initial_cluster(
    values: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    text = values["initial-cluster"]
    if text or "initial-cluster" in given:
        return parse_initial_cluster(text)
    if values["discovery-srv"] or values["discovery-endpoints"]:
        return {}
    return {values["name"] or DEFAULT_NAME: values["initial-advertise-peer-urls"]}


def parse_initial_cluster(text: str) -> dict[str, tuple[str, ...]]:
    """`name=url,name=url`; a name may come more than once."""
    found: dict[str, list[str]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, url = part.partition("=")
        try:
            found.setdefault(name, []).append(check_url(url))
        except ValueError as error:
            raise ConfigError(f"error setting up initial cluster: {error}") from None
    return {name: tuple(sorted(urls)) for name, urls in found.items()}


def _compaction(mode: str, retention: str) -> tuple[float, int]:
    """(seconds, revisions) that automatic compaction keeps (spec/config.md §2.7)."""
    if mode not in ("periodic", "revision"):
        raise ConfigError(
            f'unknown auto-compaction-mode "{mode}"' if mode else "undefined auto-compaction-mode"
        )
    if re.fullmatch(r"\+?\d+", retention):
        number = int(retention)
        return (number * 3600.0, 0) if mode == "periodic" else (0.0, number)
    try:
        seconds = parse_duration(retention)
    except ValueError as error:
        raise ConfigError(f"error parsing CompactionRetention: {error}") from None
    if seconds < 0:
        raise ConfigError(f'error parsing CompactionRetention: negative value "{retention}"')
    # etcd takes a duration for revisions in nanoseconds; nobody means that, so say so.
    if mode == "revision":
        raise ConfigError(
            "error parsing CompactionRetention: --auto-compaction-mode=revision wants a number "
            f'of revisions, not "{retention}"'
        )
    return seconds, 0
