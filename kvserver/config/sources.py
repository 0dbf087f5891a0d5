"""From a command line, an environment or a file to values by flag name (spec/config.md §1, §3).

A value is only read here, not judged: what fits together is for `validate`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from kvserver.config.errors import ConfigError, UsageError
from kvserver.config.flags import (
    ALIASES,
    ENVIRONMENT_PREFIX,
    FLAGS,
    GATE_FLAGS,
    NO_FILE_KEY,
    RETIRED,
    Flag,
    all_names,
    environment_name,
    lookup,
)
from kvserver.config.values import BOOL, DURATION, IGNORED, STRING, STRINGS

NOT_OURS = ("ETCD_CONFIG_FILE", "ETCD_VERSION", "ETCD_UNSUPPORTED_ARCH")


@dataclass(slots=True)
class Given:
    """Values by flag name, where they came from, and what to tell the operator about it."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """(level, message, fields) for the log, once there is one."""
    wants_help: bool = False

    def note(self, level: str, message: str, **fields: Any) -> None:
        self.notes.append((level, message, fields))


def read_arguments(arguments: Sequence[str]) -> Given:
    """`--flag=value`, `--flag value`, `-flag value`; a repeated flag: the last wins."""
    given = Given()
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            break
        if len(argument) < 2 or not argument.startswith("-"):
            rest.insert(0, argument)
            break
        name, separator, text = argument.removeprefix("-").removeprefix("-").partition("=")
        if not name or name.startswith("-"):
            raise UsageError(f"bad flag syntax: {argument}")
        if name in ("h", "help"):
            given.wants_help = True
            return given
        flag = lookup(name)
        if flag is None:
            raise UsageError(f"flag provided but not defined: -{name}")
        if not separator:
            text = _implied_value(flag, rest)
        given.values[name] = _parse_argument(flag, text)
    if rest:
        raise ConfigError(f"'{rest[0]}' is not a valid flag")
    return given


def _implied_value(flag: Flag, rest: list[str]) -> str:
    if flag.kind in (BOOL, IGNORED):
        return "true"
    if not rest:
        raise UsageError(f"flag needs an argument: -{flag.name}")
    return rest.pop(0)


def _parse_argument(flag: Flag, text: str) -> Any:
    try:
        return flag.kind.parse(text)
    except ValueError as error:
        if flag.kind is BOOL:
            text = f'invalid boolean value "{text}" for -{flag.name}: {error}'
        else:
            text = f'invalid value "{text}" for flag -{flag.name}: {error}'
        raise UsageError(text) from None


def add_environment(given: Given, environment: Mapping[str, str]) -> None:
    """Fill in what the command line left open. A variable beside its flag is fatal."""
    owners = {environment_name(name): name for name in all_names()}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(ENVIRONMENT_PREFIX) or not text:
            continue
        name = owners.get(variable)
        if variable in NOT_OURS or name is None:
            given.note("warn", "unrecognized environment variable", environment_variable=variable)
            continue
        if name in given.values:
            raise ConfigError(
                f'conflicting environment variable "{variable}" is shadowed by corresponding '
                "command-line flag (either unset environment variable or disable flag)"
            )
        flag = lookup(name)
        assert flag is not None
        try:
            given.values[name] = flag.kind.parse(text)
        except ValueError as error:
            raise ConfigError(f'invalid value "{text}" for {variable}: {error}') from None
        shown = "***" if "password" in name else text
        given.note(
            "info",
            "recognized and used environment variable",
            variable_name=variable,
            variable_value=shown,
        )


def shown_arguments(arguments: Sequence[str]) -> list[str]:
    """A command line for people to see: without what is given to flags for passwords."""
    shown: list[str] = []
    for text in arguments:
        name, equals, _ = text.partition("=")
        if name.startswith("-") and "password" in name and equals:
            text = f"{name}=***"
        elif (
            shown and shown[-1].startswith("-") and "password" in shown[-1] and "=" not in shown[-1]
        ):
            text = "***"
        shown.append(text)
    return shown


def read_file(path: str) -> Given:
    """A YAML (or JSON) file, which alone decides; unknown keys are passed over."""
    try:
        with open(path, encoding="utf-8") as file:
            document = yaml.safe_load(file)
    except OSError as error:
        raise ConfigError(f"open {path}: {(error.strerror or str(error)).lower()}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"error converting YAML to JSON: yaml: {where}{problem}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"error parsing {path}: {error}") from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"error parsing {path}: a mapping of keys to values is expected")
    given = Given()
    for name in all_names():
        flag = lookup(name)
        if flag is None or flag.key == NO_FILE_KEY:
            continue
        value = _find(document, flag.file_key)
        if value is not None:
            given.values[name] = _file_value(flag, value)
    return given


def _find(document: Mapping[Any, Any], key: str) -> Any:
    place: Any = document
    walked: list[str] = []
    for part in key.split("."):
        if not isinstance(place, Mapping):
            raise ConfigError(f"invalid {'.'.join(walked)}")
        walked.append(part)
        place = place.get(part)
        if place is None:
            return None
    return place


def _file_value(flag: Flag, value: Any) -> Any:
    kind = flag.kind
    is_natural = isinstance(value, str) or (
        isinstance(value, kind.file_types) and (not isinstance(value, bool) or kind is BOOL)
    )
    if not is_natural:
        raise ConfigError(
            f"invalid value for {flag.file_key}: {value!r} is not a {kind.name or 'bool'}"
        )
    if kind is STRINGS and isinstance(value, list):
        return tuple(str(item) for item in value)
    if kind is DURATION and isinstance(value, int):
        return value / 1e9
    if kind is STRING or isinstance(value, str):
        try:
            return kind.parse(str(value))
        except ValueError as error:
            raise ConfigError(_refusal(flag, str(value), error)) from None
    try:
        return kind.parse(str(value))
    except ValueError as error:
        raise ConfigError(f"invalid value for {flag.file_key}: {value!r}: {error}") from None


def _refusal(flag: Flag, text: str, error: ValueError) -> str:
    if flag.name == "initial-cluster-state":
        return f'unexpected clusterState "{text}"'
    if flag.kind.name == "urls":
        return f"unexpected error setting up {flag.file_key}: {error}"
    return f'invalid value "{text}" for {flag.file_key}: {error}'


def settle_names(given: Given) -> dict[str, Any]:
    """Values under the flags' present names; older names are reported and gates collected."""
    values = {name: value for name, value in given.values.items() if name in FLAGS}
    gates = dict(values.get("feature-gates", {}))
    for name, value in given.values.items():
        if name in ALIASES:
            newer = ALIASES[name]
            given.note("warn", f"--{name} is deprecated, use --{newer} instead")
            values.setdefault(newer, value)
        elif name in GATE_FLAGS:
            gate = GATE_FLAGS[name]
            given.note("warn", f"--{name} is deprecated, use --feature-gates={gate}=true instead")
            gates.setdefault(gate, value)
        elif name in RETIRED:
            given.note("warn", "a retired flag is no longer functional", flag=name)
        elif FLAGS[name].note:
            given.note("warn", FLAGS[name].note, flag=name)
    if gates:
        values["feature-gates"] = gates
    return values
