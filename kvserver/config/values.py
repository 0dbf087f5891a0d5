"""Kinds of flag values: text in, value out, ValueError in etcd's words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kvserver.config.durations import parse_duration

_BOOLS = {
    "1": True, "t": True, "T": True, "true": True, "TRUE": True, "True": True,
    "0": False, "f": False, "F": False, "false": False, "FALSE": False, "False": False,
}  # fmt: skip
URL_SCHEMES = ("http", "https", "unix", "unixs")

GATES = {
    "StopGRPCServiceOnDefrag": False,
    "InitialCorruptCheck": False,
    "CompactHashCheck": False,
    "TxnModeWriteWithSharedBuffer": True,
    "LeaseCheckpoint": False,
    "LeaseCheckpointPersist": False,
    "SetMemberLocalAddr": False,
    "FastLeaseKeepAlive": True,
    "PriorityRequest": False,
}
"""Feature gates and their defaults: alpha off, beta on (spec/config.md §2.8)."""
META_GATES = {"AllAlpha": False, "AllBeta": True}
"""Setting one sets every gate whose default is this value, unless it is named itself."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How a flag's text becomes a value. `name` is what usage shows."""

    name: str
    parse: Callable[[str], Any]
    file_types: tuple[type, ...]
    """What the config file may hold for it, besides text where text is natural."""


def _bool(text: str) -> bool:
    if text not in _BOOLS:
        raise ValueError("parse error")
    return _BOOLS[text]


def _int(text: str) -> int:
    try:
        value = int(text, 0) if not text.lstrip("+-").isdigit() else int(text)
    except ValueError:
        raise ValueError("parse error") from None
    if not -(2**63) <= value < 2**63:
        raise ValueError("value out of range")
    return value


def _uint(text: str) -> int:
    value = _int(text)
    if value < 0:
        raise ValueError("parse error")
    return value


def _duration(text: str) -> float:
    """Go's flags say no more than that they cannot read it."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ValueError(f"parse error ({error})") from None


def _strings(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_urls(text: str) -> tuple[str, ...]:
    """A comma-separated list, sorted (spec/config.md §1, URL list flags)."""
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise ValueError("no valid URLs given")
    return tuple(sorted(check_url(part) for part in parts))


def check_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f'parse "{text}": {_go_words(text, error)}') from None
    if not parts.scheme.isalpha() and ":" in text.partition("/")[0]:
        raise ValueError(f'parse "{text}": first path segment in URL cannot contain colon')
    if parts.scheme not in URL_SCHEMES:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    if parts.scheme in ("unix", "unixs"):
        return text
    if parts.path:
        raise ValueError(f"URL must not contain a path: {text}")
    if port is None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    return text


def _go_words(text: str, error: ValueError) -> str:
    """Of the two ways in which Python's parser fails, the one that people meet."""
    _, colon, port = urlsplit(text).netloc.rpartition(":") if "[" not in text else ("", "", "")
    return f'invalid port ":{port}" after host' if colon else str(error)


def _optional_urls(text: str) -> tuple[str, ...]:
    return parse_urls(text) if text else ()


def _gates(text: str) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for part in _strings(text):
        name, separator, value = part.partition("=")
        if name not in GATES and name not in META_GATES:
            raise ValueError(f"unrecognized feature gate: {name}")
        if not separator:
            raise ValueError(f"missing bool value for {name}")
        if value not in _BOOLS:
            raise ValueError(f"invalid value of {name}={value}, err: parse error")
        found[name] = _BOOLS[value]
    return found


def resolve_gates(given: dict[str, bool]) -> dict[str, bool]:
    """Every gate's state from those that were named."""
    gates = dict(GATES)
    for meta, default in META_GATES.items():
        if meta in given:
            gates.update({name: given[meta] for name, usual in GATES.items() if usual is default})
    gates.update({name: value for name, value in given.items() if name in GATES})
    return gates


def one_of(*choices: str) -> Kind:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("invalid value")
        return text

    return Kind("|".join(choices), parse, ())


STRING = Kind("string", str, (int,))
BOOL = Kind("", _bool, (bool,))
INT = Kind("int", _int, (int,))
UINT = Kind("uint", _uint, (int,))
DURATION = Kind("duration", _duration, (int,))
STRINGS = Kind("list", _strings, (list,))
URLS = Kind("urls", parse_urls, ())
OPTIONAL_URLS = Kind("urls", _optional_urls, ())
FEATURE_GATES = Kind("gates", _gates, ())
IGNORED = Kind("", lambda text: None, (object,))
"""A retired flag: any value or none, and nothing happens."""
