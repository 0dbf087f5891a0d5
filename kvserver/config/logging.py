"""The logger that a configuration asks for (spec/config.md §6)."""

from __future__ import annotations

import json
from typing import NoReturn

from kvserver.config.config import Config
from kvserver.config.errors import ConfigError
from kvserver.log_files import FileSink, Rotation
from kvserver.logs import FORMATS, LEVELS, JournalSink, Logger, Sink, StreamSink

STREAMS = {"default": 2, "stderr": 2, "stdout": 1}
NOTHING = "/dev/null"
JOURNAL = "systemd/journal"
MEGABYTES_MAX = 100
"""Where the configuration names no size."""
_MEGABYTE = 1 << 20
_ROTATION_TYPES = {
    "maxsize": int,
    "maxage": int,
    "maxbackups": int,
    "localtime": bool,
    "compress": bool,
}


def make_logger(config: Config) -> Logger:
    """ConfigError when an output cannot be opened or the rotation makes no sense."""
    rotation = _rotation(config)
    sinks: tuple[Sink, ...] = ()
    if NOTHING not in config.log_outputs:
        sinks = tuple(_sink(output, rotation) for output in dict.fromkeys(config.log_outputs))
    return Logger(sinks, LEVELS[config.log_level], FORMATS[config.log_format])


def _sink(output: str, rotation: Rotation) -> Sink:
    if output in STREAMS:
        return StreamSink(STREAMS[output])
    if output == JOURNAL:
        return JournalSink()
    try:
        return FileSink(output, rotation)
    except OSError as error:
        raise ConfigError(f"cannot open the log output {output!r}: {error.strerror}") from None


def _rotation(config: Config) -> Rotation:
    if not config.enable_log_rotation:
        return Rotation()
    files = [o for o in config.log_outputs if o not in STREAMS and o not in (NOTHING, JOURNAL)]
    if len(files) != 1:
        raise ConfigError(
            "--log-outputs requires a single file path when --log-rotate-config-json is defined"
        )
    try:
        found = json.loads(config.log_rotation_config_json)
    except json.JSONDecodeError as error:
        ended = error.pos >= len(error.doc.rstrip())
        reason = "unexpected end of JSON input" if ended else str(error)
        raise ConfigError(f"improperly formatted log rotation config: {reason}") from None
    if not isinstance(found, dict):
        _refuse_json(found, "value of type embed.logRotationConfig")
    for name, value in found.items():
        wanted = _ROTATION_TYPES.get(name)
        if wanted and (
            not isinstance(value, wanted) or isinstance(value, bool) is not (wanted is bool)
        ):
            _refuse_json(value, f"struct field logRotationConfig.{name} of type {wanted.__name__}")
    return Rotation(
        bytes_max=(found.get("maxsize") or MEGABYTES_MAX) * _MEGABYTE,
        days_max=max(found.get("maxage", 0), 0),
        backups_max=max(found.get("maxbackups", 0), 0),
        is_local_time=found.get("localtime", False),
        is_compressed=found.get("compress", False),
    )


def _refuse_json(value: object, place: str) -> NoReturn:
    """A value of the wrong type, as Go puts it."""
    kinds = {str: "string", bool: "bool", list: "array", dict: "object", int: "number"}
    kind = kinds.get(type(value), f"number {value}")
    raise ConfigError(f"invalid log rotation config: json: cannot unmarshal {kind} into Go {place}")
