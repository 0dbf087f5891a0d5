"""What `--help` and `--version` print, made from the table of flags."""

from __future__ import annotations

import platform
import sys
import textwrap

from kvserver.config.flags import FLAGS, GROUPS, Flag
from kvserver.config.values import BOOL
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION

WIDTH = 96
INDENT = " " * 8


def version_text() -> str:
    """Line 1 is exactly etcd's: installers look for it (spec/config.md §1 rule 10)."""
    return (
        f"etcd Version: {SERVER_VERSION}\n"
        f"Keydeck Version: {KEYDECK_VERSION}\n"
        f"Python Version: {platform.python_version()}\n"
        f"OS/Arch: {sys.platform}/{platform.machine()}\n"
    )


def usage_text() -> str:
    parts = [
        "Usage:\n"
        "  kvserver [flags]                   Start a member.\n"
        "  kvserver --config-file <path>      Start a member; the file alone decides.\n"
        "  kvserver --version                 Print versions and leave.\n"
        "  kvserver -h | --help               Print this text and leave.\n"
        "\n"
        "Every flag can be set by a variable instead: --data-dir by ETCD_DATA_DIR and so on.\n"
    ]
    for group in GROUPS:
        flags = [flag for flag in FLAGS.values() if flag.group == group and not _is_hidden(flag)]
        parts.append(f"\n{group}:\n" + "".join(_entry(flag) for flag in flags))
    return "".join(parts)


def _is_hidden(flag: Flag) -> bool:
    return bool(flag.note) or flag.help.startswith("Retired")


def _entry(flag: Flag) -> str:
    text = flag.help or flag.name.replace("-", " ").capitalize() + "."
    value = f" {flag.kind.name}" if flag.kind.name else ""
    default = "" if flag.kind is BOOL and flag.default == "false" else flag.default
    shown = f" [{default}]" if default and not text.endswith("]") else ""
    body = textwrap.fill(
        text + shown, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT,
        break_on_hyphens=False, break_long_words=False,
    )  # fmt: skip
    return f"  --{flag.name}{value}\n{body}\n"
