"""The same random operations against a real etcd and against Keydeck: every answer equal.

Covers KV with all options, nested transactions, compaction, HashKV, leases and keep-alives, alarms
and watches (spec/kv.md, spec/watch.md, spec/lease.md, spec/maintenance.md). What is allowed to
differ is listed in `differences`. A seed that ever failed stays in `SEEDS`.
"""

from __future__ import annotations

import os

import pytest

from tests.compat.conftest import StartMember
from tests.compat.runner import Comparison
from tests.support.etcd_binaries import EtcdRelease

pytestmark = [pytest.mark.compat, pytest.mark.e2e, pytest.mark.slow]

SEEDS = (1, 2)
OPERATIONS = int(os.environ.get("KEYDECK_DIFFERENTIAL_OPERATIONS", "26000"))
"""Per seed and release: more than 100 000 in all."""


@pytest.mark.parametrize("seed", SEEDS)
def test_every_answer_equals_etcds(
    release: EtcdRelease, start_etcd: StartMember, start_subject: StartMember, seed: int
) -> None:
    reference, subject = start_etcd(release), start_subject()
    comparison = Comparison(reference.endpoint, subject.endpoint, seed)
    report = comparison.run(OPERATIONS)
    assert not report.differences, str(report)
    assert report.operations >= OPERATIONS
    # The sequence did something: most operations are writes that succeed or reads that find keys.
    assert report.revision > OPERATIONS // 10

    for member in (reference, subject):
        member.terminate()
        member.start()
    report = comparison.compare_state(reference.endpoint, subject.endpoint)
    assert not report.differences, "after a restart: " + str(report)
