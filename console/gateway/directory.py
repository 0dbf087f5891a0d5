"""Users and roles of a whole cluster, though etcd tells of one a call.

What was read is kept for as long as the cluster says that nothing of users and roles has changed
(the auth revision of AuthStatus, spec/auth.md §2), so that a page costs a few calls, and a cluster
of thousands is read in parts: each page reads CALLS_MAX more and says how many are left.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import partial

from console.gateway import auth
from console.gateway.reader import Reader
from console.users.rules import Directory, EtcdRole, EtcdUser

CALLS_MAX = 200
"""Users and roles read for one page."""

KEPT_SECONDS = 60.0
"""How long a reading may take where the cluster has no auth revision to tell: before 3.5."""

DIRECTORIES_MAX = 32
"""Connections remembered; of more the one used longest ago is read anew."""


@dataclass(slots=True)
class _Known:
    """Of one connection at one revision of its users and roles."""

    revision: tuple[int | None, int]
    began_at: float
    is_whole: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: dict[str, EtcdUser | None] = field(default_factory=dict)
    roles: dict[str, EtcdRole | None] = field(default_factory=dict)


class Directories:
    """Thread-safe. A name that was listed and is gone when asked for is known as None."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[object, ...], _Known] = {}

    def read(self, reader: Reader, *, calls_max: int | None = None) -> Directory:
        """All users and roles that are known after at most `calls_max` more calls (CALLS_MAX where
        nothing is said), roles first: what a user may do hangs on them."""
        calls_max = CALLS_MAX if calls_max is None else calls_max
        revision = auth.revision(reader)
        user_names, role_names = auth.user_names(reader), auth.role_names(reader)
        known = self._of(reader, revision)
        with known.lock:
            left = _fill(
                known.roles, role_names, calls_max, partial(auth.if_there, auth.role, reader)
            )
            left = _fill(known.users, user_names, left, partial(auth.if_there, auth.user, reader))
            known.is_whole = left > 0
            users = [known.users[name] for name in user_names if name in known.users]
            roles = [known.roles[name] for name in role_names if name in known.roles]
        return Directory(
            users=tuple(one for one in users if one),
            roles=tuple(one for one in roles if one),
            users_left_out=len(user_names) - len(users),
            roles_left_out=len(role_names) - len(roles),
        )

    def forget(self) -> None:
        with self._lock:
            self._known.clear()

    def _of(self, reader: Reader, revision: tuple[int | None, int]) -> _Known:
        cluster, now = reader.cluster, time.monotonic()
        whose = (cluster.pk, cluster.user_name, cluster.changed_at)
        with self._lock:
            known = self._known.pop(whose, None)
            if known is None or known.revision != revision or _is_doubtful(known, now):
                known = _Known(revision, now)
            self._known[whose] = known  # the one used last stands last
            while len(self._known) > DIRECTORIES_MAX:
                del self._known[next(iter(self._known))]
            return known


def _is_doubtful(known: _Known, now: float) -> bool:
    """Where nobody tells of changes, only a reading that is not through yet is believed."""
    is_told = known.revision[0] is not None
    return not is_told and (known.is_whole or now - known.began_at > KEPT_SECONDS)


def _fill(known, names, calls_max, read):  # type: ignore[no-untyped-def]
    """Read what is missing, at most `calls_max`; how many calls are left."""
    for name in names:
        if calls_max <= 0:
            break
        if name not in known:
            known[name] = read(name)
            calls_max -= 1
    return calls_max


directories = Directories()
