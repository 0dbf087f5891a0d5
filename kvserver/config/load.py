"""Everything from the command line to a running logger, with etcd's exit codes."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import NoReturn

from kvserver.config.complete import complete
from kvserver.config.config import Config
from kvserver.config.errors import ConfigError, UsageError
from kvserver.config.logging import make_logger
from kvserver.config.sources import (
    Given,
    add_environment,
    read_arguments,
    read_file,
    settle_names,
)
from kvserver.config.usage import usage_text, version_text
from kvserver.config.validate import warnings
from kvserver.logs import Logger

EXIT_REFUSED = 1
EXIT_USAGE = 2


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Config, Logger]:
    """The configuration and its logger, or an exit: 0 after --help and --version, 2 when the
    command line cannot be read, 1 when the values do not fit (spec/config.md §1)."""
    detected: list[str] = []

    def detect() -> str:
        detected.append(default_route_host())
        return detected[-1]

    try:
        given = read_arguments(arguments)
        if given.wants_help:
            _leave(0, usage_text())
        if given.values.get("version"):
            _leave(0, version_text())
        given = gather(given, environment)
        config = complete(settle_names(given), detect)
        log = make_logger(config)
    except UsageError as error:
        print(f"{error}\n\n{usage_text()}", end="", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None
    except ConfigError as error:
        text = f"error verifying flags, {str(error).rstrip('.')}. See 'kvserver --help'."
        print(text, file=sys.stderr)
        raise SystemExit(EXIT_REFUSED) from None
    for level, message, extra in given.notes:
        getattr(log, level)(message, **extra)
    if any(detected):
        log.info("detected default host for advertise", host=detected[-1])
    for message, extra in warnings(config):
        log.warn(message, **extra)
    return config, log


def gather(given: Given, environment: Mapping[str, str]) -> Given:
    """The file alone if there is one; else flags, then variables."""
    path = given.values.get("config-file") or environment.get("ETCD_CONFIG_FILE", "")
    if not path:
        add_environment(given, environment)
        return given
    others = sorted(set(given.values) - {"config-file"})
    given = read_file(path)
    given.values["config-file"] = path
    given.note("info", "loaded server configuration, other configuration command line flags and "
               "environment variables will be ignored if provided", path=path)  # fmt: skip
    if others:
        given.note("warn", "flags are ignored because of --config-file", flags=others)
    return given


def _leave(code: int, text: str) -> NoReturn:
    print(text, end="")
    raise SystemExit(code)


def default_route_host() -> str:
    """The address that packets to elsewhere would leave from; nothing is sent. "" if none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def field_names() -> frozenset[str]:
    """What `Config` holds, for the test that holds it against the table of flags."""
    return frozenset(field.name for field in fields(Config))
