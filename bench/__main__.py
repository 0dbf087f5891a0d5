"""`python -m bench`: start both servers, run every measure on both, print the table."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import cluster
from bench.connection import ReplyFailed
from bench.measures import FULL, MEASURES, QUICK, Doubtful, Measure, Run, Scale, load_small
from bench.report import Figures, table
from bench.targets import NO_SECURITY, Security, Target, etcd_target, keydeck_target
from tests.support.etcd_binaries import REPOSITORY, EtcdRelease, find_etcd35, release_at
from tests.support.servers_proc import ServerFailed

OUT = REPOSITORY / "bench" / "out"


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, under two minutes")
    parser.add_argument("--etcd", metavar="PATH", help="the etcd binary to compare with")
    parser.add_argument("--subject-etcd", metavar="PATH", help="an etcd in Keydeck's place")
    parser.add_argument("--tls", action="store_true", help="clients use TLS, with both servers")
    names = [measure.name for measure in MEASURES]
    parser.add_argument("--only", action="append", choices=names, help="only this measure")
    parser.add_argument("--auth", action="store_true", help="callers sign in, at both servers")
    parser.add_argument(
        "--cluster", type=int, choices=(3, 5), help="so many members of each kind, puts only"
    )
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    return parser.parse_args(argv)


def _release(path: str | None) -> EtcdRelease:
    release = release_at(Path(path)) if path else find_etcd35()
    if release is None:
        raise SystemExit(f"no usable etcd at {path}" if path else "etcd 3.5 cannot be had")
    return release


class Pairs:
    """Makes pairs of targets (reference, subject) on fresh data directories."""

    def __init__(self, options: argparse.Namespace, data: Path) -> None:
        self._reference = _release(options.etcd)
        self._subject = _release(options.subject_etcd) if options.subject_etcd else None
        self._data = data
        security = Security.with_tls(data) if options.tls else NO_SECURITY
        self._security = replace(security, wants_auth=options.auth)
        self._made = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[tuple[Target, Target]]:
        self._made += 1
        security = self._security
        before = self._data / f"{self._made}-reference"
        reference = etcd_target(self._reference, before, security=security)
        at = self._data / f"{self._made}-subject"
        if self._subject is None:
            subject = keydeck_target(at, security)
        else:
            label = f"subject etcd {self._subject.version}"
            subject = etcd_target(self._subject, at, label, security)
        try:
            reference.start()
            subject.start()
            yield reference, subject
        finally:
            reference.stop()
            subject.stop()


def run_measure(measure: Measure, run: Run, pair: tuple[Target, Target], figures: Figures) -> None:
    """All rounds of one measure; the side that goes first changes with every round."""
    rounds = 1 if measure.fresh else run.scale.rounds
    for number in range(rounds):
        sides = (0, 1) if number % 2 == 0 else (1, 0)
        for side in sides:
            target = pair[side]
            began = time.perf_counter()
            try:
                sample = measure.measure(run, target)
            except (ReplyFailed, Doubtful, OSError) as failure:
                figures.notes.append(f"- **{measure.name} failed on {target.label}**: {failure}")
                print(f"  {target.label}: FAILED: {failure}", file=sys.stderr, flush=True)
                continue
            figures.add(side, sample)
            shown = ", ".join(f"{name} {value:,.4g}" for name, value in sample.values.items())
            took = time.perf_counter() - began
            print(f"  {target.label}: {shown} ({took:.1f} s)", file=sys.stderr, flush=True)


def note_loop_lag(measure: str, pair: tuple[Target, Target], figures: Figures) -> None:
    with contextlib.suppress(OSError):
        lag = pair[1].loop_lag_seconds()
        if lag is not None:
            figures.notes.append(f"- worst event-loop lag up to {measure}: {lag * 1e3:.1f} ms")


def clusters(options: argparse.Namespace, scale: Scale, data: Path) -> int:
    """Several members of each kind, one table."""
    subject = _release(options.subject_etcd) if options.subject_etcd else None
    try:
        with cluster.running(_release(options.etcd), subject, options.cluster, data) as pair:
            figures = cluster.measure_clusters(Run(scale), pair, run_measure)  # type: ignore[arg-type]
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(data, ignore_errors=True)
    title = [
        f"# {pair[1].label} beside {pair[0].label}",
        "",
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d %H:%M')}, all members and the generator "
        "on one machine.",
    ]
    report = table(figures, title)
    print(report)
    (OUT / f"{time.strftime('%Y%m%d-%H%M%S')}-cluster.md").write_text(report)
    return 1 if any("failed on" in note for note in figures.notes) else 0


def main(argv: list[str]) -> int:
    options = arguments(argv)
    scale = QUICK if options.quick else FULL
    data = OUT / f"data-{os.getpid()}"
    data.mkdir(parents=True)
    if options.cluster:
        return clusters(options, scale, data)
    chosen = [m for m in MEASURES if not options.only or m.name in options.only]
    pairs = Pairs(options, data)
    run = Run(scale)
    figures = Figures(("etcd", "Keydeck"))
    try:
        with pairs.running() as shared:
            figures.labels = (shared[0].label, shared[1].label)
            for target in shared:
                load_small(run, target)
            for measure in (m for m in chosen if not m.fresh):
                print(f"{measure.name}", file=sys.stderr, flush=True)
                run_measure(measure, run, shared, figures)
                note_loop_lag(measure.name, shared, figures)
        for measure in (m for m in chosen if m.fresh):
            print(f"{measure.name}", file=sys.stderr, flush=True)
            with pairs.running() as pair:
                run_measure(measure, run, pair, figures)
                note_loop_lag(measure.name, pair, figures)
    except ServerFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    finally:
        if not options.keep:
            shutil.rmtree(data, ignore_errors=True)
    title = [
        f"# Keydeck beside etcd ({'quick' if options.quick else 'full'} run)",
        "",
        f"{os.cpu_count()} cores, {time.strftime('%Y-%m-%d %H:%M')}, {scale.keys:,} keys in the "
        "large keyspace, both servers and the generator on one machine."
        + (" Clients use TLS." if options.tls else "")
        + (" Callers have signed in." if options.auth else ""),
    ]
    report = table(figures, title)
    print(report)
    (OUT / f"{time.strftime('%Y%m%d-%H%M%S')}.md").write_text(report)
    return 1 if any("failed on" in note for note in figures.notes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
