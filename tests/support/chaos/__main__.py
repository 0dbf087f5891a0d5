"""Round after round of chaos, one line each: `make chaos MINUTES=10 MEMBERS=5 SEED=1`.

MIXED=1: one member is a real etcd. NETNS=1: members in network namespaces of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from tests.support.chaos import namespaces
from tests.support.chaos.cluster import ChaosCluster, Ports, chaos_cluster
from tests.support.chaos.disks import may_mount
from tests.support.chaos.faults import MIXABLE, WITH_CABLES
from tests.support.chaos.journal import save
from tests.support.chaos.namespaces import Namespaces, NotHere
from tests.support.chaos.plan import plan_round
from tests.support.chaos.rounds import RoundResult, Rounds
from tests.support.etcd_binaries import find_etcd35

ROUNDS_PER_CLUSTER = 12


def main() -> int:
    options = parsed()
    if options.netns:
        try:
            namespaces.enter(["-m", "tests.support.chaos", *sys.argv[1:]])
        except NotHere as error:
            print(error)
            return 2
    seed = options.seed or random.SystemRandom().randrange(1, 1_000_000)
    runs = Path(tempfile.mkdtemp(prefix="keydeck-chaos-"))
    print(f"seed {seed}; whatever is kept is in {runs}", flush=True)
    results: list[RoundResult] = []
    until = monotonic() + options.minutes * 60
    with may_be_interrupted():
        while monotonic() < until and len(results) < options.rounds:
            try:
                results.extend(one_cluster(options, seed, runs, len(results), until))
            except AssertionError as error:
                print(f"a cluster did not start: {error}", flush=True)
                return 1
    print_summary(results)
    bad = [each for each in results if each.violations]
    if not bad:
        shutil.rmtree(runs, ignore_errors=True)
    return 1 if bad else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1_000_000)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed", action="store_true", help="one member is a real etcd 3.5")
    parser.add_argument("--netns", action="store_true", help="members in network namespaces")
    parser.add_argument("--ports", default="0-0", help="FIRST-LAST, else anywhere below 31000")
    return parser.parse_args()


@contextlib.contextmanager
def may_be_interrupted() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def one_cluster(
    options: argparse.Namespace, seed: int, runs: Path, done: int, until: float
) -> Iterator[RoundResult]:
    """Some rounds of one cluster; a violation ends it, and what is there is kept."""
    directory = runs / f"from-round-{done}"
    first, _, last = options.ports.partition("-")
    ports = Ports(int(first), int(last))
    etcd = etcd_command() if options.mixed else ()
    with chaos_cluster(
        directory,
        options.members,
        ports=ports,
        etcd=etcd,
        small_disks=int(may_mount()),
        in_namespaces=options.netns,
    ) as cluster:
        rounds = Rounds(cluster, seed)
        for number in range(done, min(done + ROUNDS_PER_CLUSTER, options.rounds)):
            if monotonic() > until:
                break
            result = one_round(rounds, cluster, seed, number)
            yield result
            if result.violations:
                print("\n".join(result.violations), flush=True)
                print(f"kept in {save(directory / f'round-{number}', result)}", flush=True)
                return
    shutil.rmtree(directory, ignore_errors=True)


def one_round(rounds: Rounds, cluster: ChaosCluster, seed: int, number: int) -> RoundResult:
    dice = random.Random(seed * 1000 + number)
    has_small_disk = any(member.disk is not None for member in cluster.members)
    mixable = MIXABLE + WITH_CABLES if isinstance(cluster.network, Namespaces) else MIXABLE
    plan = plan_round(dice, has_small_disk=has_small_disk, mixable=mixable)
    result = rounds.run(plan, number)
    print(result, flush=True)
    result.evidence = result.evidence if result.violations else None
    return result


def etcd_command() -> tuple[str, ...]:
    release = find_etcd35()
    if release is None:
        raise SystemExit("no etcd 3.5 is to be had here")
    return (str(release.etcd),)


def print_summary(results: list[RoundResult]) -> None:
    bad = [each for each in results if each.violations]
    print(
        f"{len(results)} rounds, {sum(r.operations for r in results)} operations, "
        f"{sum(r.unknown for r in results)} of unknown outcome, {len(bad)} rounds with violations"
    )
    for what, values in (
        ("failover", [r.failover_seconds for r in results if r.failover_seconds is not None]),
        ("farewell", [r.farewell_seconds for r in results if r.farewell_seconds is not None]),
    ):
        if values:
            values.sort()
            middle = values[len(values) // 2]
            print(f"{what}: {len(values)} times, median {middle:.2f} s, most {values[-1]:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
