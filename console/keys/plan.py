"""What an import or a rewind would change, counted, with a sample: made in the request when that
is quick, by a job where it is not, and then kept with the job. No Django, no gRPC."""

from __future__ import annotations

import base64
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from console.keys.batches import Change

SAMPLE = 20
VALUE_BYTES_MAX = 64 * 1024
"""A sampled value that is larger is not kept with a job."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """One key of the sample. `change` as it would be written, where that is known: a rewind reads
    values only when it writes them."""

    key: bytes
    kind: str
    change: Change | None = None


@dataclass(slots=True)
class Plan:
    """Compared at the revision `base`. `counts`: create, change, delete, same, skipped."""

    base: int
    counts: Counter[str] = field(default_factory=Counter)
    sample: list[Sampled] = field(default_factory=list)
    with_lease: int = 0
    """Entries of a file that note a lease."""

    @property
    def changes(self) -> int:
        return self.counts["create"] + self.counts["change"] + self.counts["delete"]

    def add(self, key: bytes, kind: str, change: Change | None = None) -> None:
        self.counts[kind] += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(Sampled(key, kind, change))

    @property
    def first_batch(self) -> list[Change]:
        """As many of the first changes as are known whole."""
        known: list[Change] = []
        for one in self.sample:
            if one.change is None:
                break
            known.append(one.change)
        return known

    def to_json(self) -> dict[str, Any]:
        return {
            "base": str(self.base),  # no 64-bit number goes through JSON as one (trap 3)
            "counts": dict(self.counts),
            "with_lease": self.with_lease,
            "sample": [_sampled_to_json(one) for one in self.sample],
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Plan:
        return cls(
            int(kept["base"]),
            Counter(kept["counts"]),
            [_sampled_from_json(one) for one in kept["sample"]],
            kept["with_lease"],
        )


def _sampled_to_json(one: Sampled) -> dict[str, Any]:
    found: dict[str, Any] = {"key": _text(one.key), "kind": one.kind}
    change = one.change
    if change is not None and len(change.value or b"") <= VALUE_BYTES_MAX:
        found["change"] = {
            "base": str(change.base),
            "value": None if change.value is None else _text(change.value),
            "lease": str(change.lease),
            "keeps_lease": change.keeps_lease,
        }
    return found


def _sampled_from_json(kept: dict[str, Any]) -> Sampled:
    key = base64.b64decode(kept["key"])
    change = None
    if "change" in kept:
        held = kept["change"]
        value = None if held["value"] is None else base64.b64decode(held["value"])
        change = Change(
            key, int(held["base"]), value, int(held["lease"]), keeps_lease=held["keeps_lease"]
        )
    return Sampled(key, kept["kind"], change)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
