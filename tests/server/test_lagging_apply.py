"""The only voter may be read while committed entries still wait for their slice; whoever waits for
those entries must let the loop go on."""

import asyncio
from pathlib import Path

import pytest

from kvserver.proto import rpc_pb2
from kvserver.runtime import apply_duty
from tests.support.in_process import running

PUTS = 300
UNKNOWN_LEASE = 4711


@pytest.fixture
def one_entry_per_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_duty, "SLICE_SECONDS_MAX", 0.0)
    monkeypatch.setattr(apply_duty, "ENTRIES_PER_CLOCK_LOOK", 1)


@pytest.mark.usefixtures("one_entry_per_slice")
async def test_leases_are_asked_for_while_entries_wait(tmp_path: Path) -> None:
    """spec/lease.md K7, T3: the unknown lease may be in an entry that is not applied yet."""
    async with running(tmp_path) as member:
        puts = [
            asyncio.ensure_future(member.kv.Put(rpc_pb2.PutRequest(key=b"%d" % number)))
            for number in range(PUTS)
        ]
        answers = []
        while not all(put.done() for put in puts):
            request = rpc_pb2.LeaseKeepAliveRequest(ID=UNKNOWN_LEASE)
            stream = member.lease.LeaseKeepAlive(iter([request]))
            answers.append(await stream.read())
            left = await member.lease.LeaseTimeToLive(
                rpc_pb2.LeaseTimeToLiveRequest(ID=UNKNOWN_LEASE)
            )
            assert left.TTL == -1
        await asyncio.gather(*puts)
        assert answers and all(answer.TTL == 0 for answer in answers)
