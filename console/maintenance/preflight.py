"""What has to be true before an alarm is taken back. No Django, no gRPC: values in, values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from console.maintenance.plan import MemberHash, verdict
from console.overview.health import Health, Row

SPACE_SHARE_MAX = 0.95
"""A database fuller than this share of its quota raises NOSPACE again at the next writes."""

MEANINGS = {
    "NOSPACE": "A member's database reached its quota. Every member refuses puts, transactions "
    "that put and new leases; reads, deletes and compaction go on.",
    "CORRUPT": "Members were found to hold different data. Every member refuses writes, "
    "compaction and leases; reads go on, and may tell different things.",
}
"""spec/kv.md L6 and L8: one alarm of a kind on any member is enough."""

REMEDIES = {
    "NOSPACE": "Compact, defragment every member that is full, then disarm.",
    "CORRUPT": "Compare the hashes, replace the member that differs, then disarm.",
}


@dataclass(frozen=True, slots=True)
class Check:
    """`level`: ok, warn (not known), danger (it fails)."""

    name: str
    level: str
    said: str


def space_checks(health: Health) -> list[Check]:
    """Every member's database against its quota, as of now."""
    return [_space(row) for row in health.rows]


def _space(row: Row) -> Check:
    label, status = row.member.label, row.member.status
    if status is None:
        return Check(label, "warn", f"does not answer ({row.member.failure or row.state})")
    size, quota = status.db_size_bytes, status.db_quota_bytes
    if quota == 0:
        return Check(label, "warn", f"{mebibytes(size)}; this release does not tell its quota")
    if quota < 0:
        return Check(label, "ok", f"{mebibytes(size)}, no quota")
    said = f"{mebibytes(size)} of {mebibytes(quota)}, {100 * size // quota} %"
    if size > quota * SPACE_SHARE_MAX:
        return Check(label, "danger", f"{said}: it would be raised again")
    return Check(label, "ok", said)


def data_checks(hashes: Sequence[MemberHash]) -> list[Check]:
    level, sentence = verdict(hashes)
    return [Check("HashKV of all members", level, sentence)]


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.1f}\N{NO-BREAK SPACE}MiB"
