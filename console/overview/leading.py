"""For how long somebody has led, as far as this console has seen (sampling/recorder.py)."""

from __future__ import annotations

from datetime import UTC, datetime
from time import time

from console.models import Cluster, LeaderChange
from console.overview.health import Health

HOUR, DAY = 3600, 24 * 3600


def leads_words(cluster: Cluster, health: Health, now: float | None = None) -> str:
    """Such as "for 6 d", "for at least 3 h" where the console came later than the leader, in the
    first hour "since 13:20 UTC"; "" when it is not known. None changes more than once an hour."""
    if health.leader is None:
        return ""
    change = LeaderChange.objects.filter(cluster=cluster).first()
    if change is None or change.after != health.leader.label or change.term != health.term:
        return ""
    seconds = (time() if now is None else now) - change.second
    if seconds < HOUR:
        since = datetime.fromtimestamp(change.second, UTC)
        return f"since {since:%H:%M} UTC" if change.before else ""
    length = f"{int(seconds // DAY)} d" if seconds >= DAY else f"{int(seconds // HOUR)} h"
    return f"for {length}" if change.before else f"for at least {length}"
