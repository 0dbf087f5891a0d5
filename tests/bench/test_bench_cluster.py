"""The comparison of clusters, tried on members that are not compared with anything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.cluster import MEASURES, ClusterTarget
from bench.measures import QUICK, Run
from bench.report import ROWS
from tests.support.cluster_proc import CALM
from tests.support.servers_proc import free_port, keydeck_server


def test_every_figure_of_three_members_has_its_row(tmp_path: Path) -> None:
    """And every measure proves what it wrote: `Doubtful` otherwise."""
    servers = [
        keydeck_server(
            tmp_path / f"m{number}" / "data",
            name=f"m{number}",
            client_port=free_port(),
            peer_port=free_port(),
            flags=CALM,  # a measure believes no error, of an election neither
        )
        for number in range(3)
    ]
    target = ClusterTarget("three", servers)
    run = Run(replace(QUICK, lone_puts=20, puts=2000))
    try:
        target.start()
        assert len(target.followers) == 2
        for measure in MEASURES:
            sample = measure.measure(run, target)  # type: ignore[arg-type]
            assert sample.values.keys() <= ROWS.keys()
            assert all(value >= 0 for value in sample.values.values())
    finally:
        target.stop()
