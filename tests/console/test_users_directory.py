"""Users and roles of a cluster of many: read in parts, kept while nothing of them changes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from console.gateway import auth, directory
from console.gateway.directory import Directories
from console.users.rules import EtcdRole, EtcdUser

READER: Any = SimpleNamespace(cluster=SimpleNamespace(pk=1, user_name="", changed_at=0))


class Told:
    """A cluster of as many users and roles as are wanted; counts what is asked of it."""

    def __init__(self, users: int, roles: int) -> None:
        self.users = [f"u{number}" for number in range(users)]
        self.roles = [f"r{number}" for number in range(roles)]
        self.revision: tuple[int | None, int] = (7, 0)
        self.asked: list[str] = []

    def get(self, get: Any, reader: Any, name: str) -> EtcdUser | EtcdRole | None:
        self.asked.append(name)
        if name == "u1":
            return None  # deleted since it was listed
        return EtcdUser(name) if get is auth.user else EtcdRole(name)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    one = Told(users=25, roles=5)
    monkeypatch.setattr(auth, "revision", lambda reader: one.revision)
    monkeypatch.setattr(auth, "user_names", lambda reader: one.users)
    monkeypatch.setattr(auth, "role_names", lambda reader: one.roles)
    monkeypatch.setattr(auth, "if_there", one.get)
    return one


def test_each_page_reads_on_where_the_one_before_stopped(told: Told) -> None:
    directories = Directories()
    first = directories.read(READER, calls_max=10)
    assert (len(first.roles), len(first.users)) == (5, 4)  # u1 is gone
    assert (first.users_left_out, first.users_total) == (20, 24)
    assert not first.is_whole
    second = directories.read(READER, calls_max=10)
    assert second.users_left_out == 10
    whole = directories.read(READER, calls_max=10)
    assert whole.is_whole and len(whole.users) == 24
    assert len(told.asked) == 30  # each of them once
    directories.read(READER, calls_max=10)
    assert len(told.asked) == 30


@pytest.mark.parametrize("revision", [(8, 0), (7, 1)])
def test_a_change_of_anybody_reads_all_of_it_anew(told: Told, revision) -> None:
    directories = Directories()
    directories.read(READER, calls_max=100)
    told.revision = revision
    directories.read(READER, calls_max=100)
    assert len(told.asked) == 60


def test_a_cluster_that_counts_no_changes_is_believed_only_while_it_is_read(told: Told) -> None:
    """Before 3.5 nobody tells whether something changed (spec/auth.md §3)."""
    told.revision = (None, 0)
    directories = Directories()
    directories.read(READER, calls_max=20)
    assert directories.read(READER, calls_max=20).is_whole
    assert len(told.asked) == 30
    directories.read(READER, calls_max=100)
    assert len(told.asked) == 60


def test_a_reading_of_long_ago_is_not_gone_on_with(told: Told, monkeypatch) -> None:
    told.revision = (None, 0)
    directories = Directories()
    directories.read(READER, calls_max=20)
    monkeypatch.setattr(directory, "KEPT_SECONDS", -1.0)
    directories.read(READER, calls_max=20)
    assert told.asked[20:25] == told.roles  # from the beginning


def test_connections_are_told_apart_and_few_are_kept(told: Told, monkeypatch) -> None:
    monkeypatch.setattr(directory, "DIRECTORIES_MAX", 2)
    directories = Directories()
    for number in (1, 2, 3, 1):
        cluster = SimpleNamespace(pk=number, user_name="", changed_at=0)
        reader: Any = SimpleNamespace(cluster=cluster)
        directories.read(reader, calls_max=100)
    assert len(told.asked) == 120
