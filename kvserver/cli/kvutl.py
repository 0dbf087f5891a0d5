"""The command `kvutl`: backups without a server, in the manner of `etcdutl` (spec/tools.md §3).

    kvutl snapshot status FILE
    kvutl snapshot restore FILE --data-dir DIR [options]

`total keys` are the records of all buckets, as the tools of 3.4 and 3.5 count them. Exit codes: 0;
1 for what could not be done; 4 for an output format that does not exist; 128 for bad arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from kvserver.cli.printing import human_size, table
from kvserver.config.complete import parse_initial_cluster
from kvserver.config.values import parse_urls
from kvserver.datadir import DataDir
from kvserver.errors import KeydeckError
from kvserver.fs import RealFileSystem
from kvserver.interchange.digest import open_snapshot_file
from kvserver.interchange.importer import Bump
from kvserver.interchange.restore import NewCluster, RestoreRefused, restore
from kvserver.interchange.status import Status, image_status
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION

EXIT_FAILED = 1
EXIT_BAD_FORMAT = 4
EXIT_BAD_ARGUMENTS = 128
FORMATS = ("fields", "json", "protobuf", "simple", "table")
BUMP_MAX = 2**62
SWITCHES = ("--skip-hash-check", "--mark-compacted")


class CommandFailed(Exception):
    """Ends the command with a message and an exit code."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


class Parser(argparse.ArgumentParser):
    """Complains like etcd's tools: `Error: …`, exit code 1."""

    def error(self, message: str) -> NoReturn:
        raise CommandFailed(message)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Entry point."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """One command; returns its exit code."""
    try:
        options = make_parser().parse_args(plain_switches(arguments))
        options.run(options)
    except CommandFailed as failure:
        print(f"Error: {failure}", file=sys.stderr)
        return failure.code
    except (KeydeckError, ValueError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        print(f"Error: open {error.filename or options.file[0]}: {reason}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def plain_switches(arguments: Sequence[str]) -> list[str]:
    """`--switch=true` and `--switch=false` as scripts written for Go's flags have them."""
    values = {f"{name}={value}": name for name in SWITCHES for value in ("true", "1")}
    dropped = {f"{name}={value}" for name in SWITCHES for value in ("false", "0")}
    return [values.get(word, word) for word in arguments if word not in dropped]


def make_parser() -> Parser:
    parser = Parser(prog="kvutl", description="Works on Keydeck's files without a server.")
    _add_format(parser, "simple")
    parser.set_defaults(run=lambda options: parser.print_help())
    commands = parser.add_subparsers(metavar="command", parser_class=Parser)
    version = _command(commands, "version", "print the version", show_version)
    _add_format(version)
    snapshot = _command(commands, "snapshot", "backups", lambda options: snapshot.print_help())
    _add_format(snapshot)
    below = snapshot.add_subparsers(metavar="command", parser_class=Parser)
    status = _command(below, "status", "hash, revision, keys and size of a backup", show_status)
    _add_format(status)
    status.add_argument("file", nargs="*", metavar="FILE")
    _add_restore(_command(below, "restore", "a backup becomes a data directory", run_restore))
    return parser


def _command(commands: Any, name: str, about: str, run: Callable[[Any], None]) -> Parser:
    parser: Parser = commands.add_parser(name, help=about, description=about, allow_abbrev=False)
    parser.set_defaults(run=run)
    return parser


def _add_format(parser: Parser, default: str = argparse.SUPPRESS) -> None:
    parser.add_argument(
        "-w", "--write-out", default=default, metavar="FORMAT", help=", ".join(FORMATS)
    )


def _add_restore(parser: Parser) -> None:
    _add_format(parser)
    add = parser.add_argument
    add("file", nargs="*", metavar="FILE")
    add("--data-dir", default="", help="where to restore to (default NAME.etcd)")
    add("--wal-dir", default="", help="a log directory outside of the data directory")
    add("--name", default="default", help="this member's name")
    add("--initial-cluster", default="default=http://localhost:2380", help="NAME=URL,…")
    add("--initial-cluster-token", default="etcd-cluster", help="the new cluster's token")
    add("--initial-advertise-peer-urls", default="http://localhost:2380", help="URL,…")
    add("--skip-hash-check", action="store_true", help="for a file copied from a data directory")
    add("--bump-revision", type=int, default=0, help="go on so many revisions later")
    add("--mark-compacted", action="store_true", help="all revisions before; with --bump-revision")
    add("--initial-memory-map-size", type=int, default=0, help=argparse.SUPPRESS)


# -- the commands


def show_version(options: Any) -> None:
    print(f"kvutl version: {KEYDECK_VERSION}")
    print(f"API version: {'.'.join(SERVER_VERSION.split('.')[:2])}")


def show_status(options: Any) -> None:
    path = the_file(options, "status")
    show = STATUS_FORMATS.get(options.write_out)
    if show is None:
        known = options.write_out in FORMATS
        text = f"{options.write_out} not supported as" if known else "unsupported"
        raise CommandFailed(f"{text} output format", EXIT_BAD_FORMAT)
    if not os.path.exists(path):
        raise CommandFailed(f"stat {path}: no such file or directory")
    with open_snapshot_file(path) as file:
        print(show(image_status(file.image)), end="")


def the_file(options: Any, command: str) -> str:
    if len(options.file) != 1:
        raise CommandFailed(f"snapshot {command} requires exactly one argument", EXIT_BAD_ARGUMENTS)
    path: str = options.file[0]
    return path


def _simple(status: Status) -> str:
    return (
        f"{status.hash:x}, {status.revision}, {status.total_keys}, "
        f"{human_size(status.total_bytes)}, {status.version}\n"
    )


def _json(status: Status) -> str:
    fields = {
        "hash": status.hash,
        "revision": status.revision,
        "totalKey": status.total_keys,
        "totalSize": status.total_bytes,
        "version": status.version,
    }
    return json.dumps(fields, separators=(",", ":")) + "\n"


def _fields(status: Status) -> str:
    return (
        f'"Hash" : {status.hash}\n"Revision" : {status.revision}\n"Keys" : {status.total_keys}\n'
        f'"Size" : {status.total_bytes}\n"Version" : {status.version}\n'
    )


def _table(status: Status) -> str:
    row = (
        f"{status.hash:x}",
        str(status.revision),
        str(status.total_keys),
        human_size(status.total_bytes),
        status.version,
    )
    return table(("HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"), [row])


STATUS_FORMATS: dict[str, Callable[[Status], str]] = {
    "simple": _simple,
    "json": _json,
    "fields": _fields,
    "table": _table,
}


def run_restore(options: Any) -> None:
    path = the_file(options, "restore")
    root = options.data_dir or f"{options.name}.etcd"
    restore(
        RealFileSystem(),
        path,
        DataDir.at(root, options.wal_dir),
        new_cluster(options),
        skip_hash_check=options.skip_hash_check,
        bump=bump_of(options),
    )
    print(f"restored {path} to {root}", file=sys.stderr)


def new_cluster(options: Any) -> NewCluster:
    peers = parse_initial_cluster(options.initial_cluster)
    advertised = parse_urls(options.initial_advertise_peer_urls)
    if options.name not in peers:
        raise RestoreRefused(
            f'couldn\'t find local name "{options.name}" in the initial cluster configuration'
        )
    own = peers[options.name]
    if sorted(own) != sorted(advertised):
        raise RestoreRefused(
            f"--initial-cluster has {options.name}={','.join(own)} but missing from "
            f"--initial-advertise-peer-urls={','.join(advertised)}"
        )
    urls = [url for of_member in peers.values() for url in of_member]
    if len(set(urls)) != len(urls):
        raise RestoreRefused("--initial-cluster has the same URL twice")
    return NewCluster(options.name, peers, options.initial_cluster_token)


def bump_of(options: Any) -> Bump | None:
    revisions: int = options.bump_revision
    if bool(revisions) != options.mark_compacted:
        raise CommandFailed("--mark-compacted required if --bump-revision, and the other way round")
    if not 0 <= revisions <= BUMP_MAX:
        raise CommandFailed(f"--bump-revision must be between 1 and {BUMP_MAX}")
    return Bump(revisions) if revisions else None


if __name__ == "__main__":
    main()
