"""Which revision a moment of the clock means, and when a revision was: from the console's samples.

A store knows no clock. The console's own samples do: every one says which revision each member
had reached at a moment (sampling/recorder.py). Between two of them nothing is known, so every
answer is an interval, and is given with its ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from console.models import Cluster, Sample

LOOK_SECONDS = 3
"""A sample may say what a member said that long before (overview/sampler.py)."""


class NoMoment(Exception):
    """No revision can be told for this time; the text says why."""


@dataclass(frozen=True, slots=True)
class Moment:
    """At `asked` the store was at `revision` or later, but not beyond `latest`. `seen_at`: when
    the console had last seen it by then."""

    asked: datetime
    revision: int
    latest: int
    seen_at: datetime

    @property
    def is_exact(self) -> bool:
        return self.revision == self.latest

    @property
    def said(self) -> str:
        text = f"{told(self.asked)} is revision {self.revision}"
        if self.is_exact:
            return f"{text}: nothing was written between the samples around it."
        more = self.latest - self.revision
        return (
            f"{text}, sampled by {told(self.seen_at)}. Up to {more} later "
            f"revision{'s' if more > 1 else ''} may belong before that time too, "
            f"the last of them {self.latest}."
        )


def moment_of(
    cluster: Cluster, asked: datetime, now: datetime, *, newest: int, compacted: int
) -> Moment:
    """`newest` and `compacted`: the window the store keeps now. Raises NoMoment."""
    if asked > now:
        raise NoMoment(f"{told(asked)} has not come yet: it is {told(now)}.")
    samples = _samples(cluster)
    before = _ended_by(cluster, int(asked.timestamp()))
    if before is None:
        first = samples.order_by("second").first()
        since = (
            f"The first sample of this cluster is of {told(_ends(first))}."
            if first
            else "No sample was taken of this cluster yet, and none is of a connection that asks "
            "people for their own credentials."
        )
        raise NoMoment(f"What the store was at {told(asked)} is not known. {since}")
    if before.revision < compacted:
        raise NoMoment(
            f"At {told(asked)} the store was at revision {before.revision} or a little later, "
            f"which is compacted: it keeps what was from revision {compacted} on"
            f"{_kept_since(cluster, compacted)}."
        )
    surely_later = math.ceil(asked.timestamp()) + LOOK_SECONDS
    later = samples.filter(second__gte=surely_later).order_by("second", "-revision").first()
    latest = later.revision if later else newest
    return Moment(asked, before.revision, max(before.revision, latest), _ends(before))


def _ended_by(cluster: Cluster, second: int) -> Sample | None:
    """The newest sample that was over by then: of a slot the largest revision is kept, which may
    be of its very end."""
    found = None
    for grain in set(_samples(cluster).values_list("grain_seconds", flat=True).distinct()):
        over = _samples(cluster).filter(grain_seconds=grain, second__lte=second - grain)
        last = over.order_by("-second", "-revision").first()
        if last and (found is None or _ends(last) > _ends(found)):
            found = last
    return found


def _kept_since(cluster: Cluster, compacted: int) -> str:
    first = _samples(cluster).filter(revision__gte=compacted).order_by("second").first()
    return f", reached by {told(_ends(first))}" if first else ""


def when(cluster: Cluster, revision: int) -> tuple[datetime | None, datetime] | None:
    """Between which moments the store reached a revision; None where no sample tells. The first is
    None where the console had not looked before."""
    samples = _samples(cluster)
    reached = samples.filter(revision__gte=revision).order_by("second").first()
    if reached is None:
        return None
    last = samples.filter(second__lt=reached.second).order_by("-second").first()
    if last is None:
        return None, _ends(reached)
    return datetime.fromtimestamp(last.second, UTC) - timedelta(seconds=LOOK_SECONDS), _ends(
        reached
    )


def _samples(cluster: Cluster):  # type: ignore[no-untyped-def]
    return Sample.objects.filter(cluster=cluster, is_up=True, revision__gt=0)


def _ends(sample: Sample) -> datetime:
    return datetime.fromtimestamp(sample.second + sample.grain_seconds, UTC)


def told(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
