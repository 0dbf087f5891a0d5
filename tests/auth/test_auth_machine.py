"""Random histories of users, roles, tokens and restarts against the plain model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvserver import errors
from kvserver.auth import Checker, Identity
from kvserver.auth.tokens import SimpleTokens
from kvserver.proto import rpc_pb2
from tests.auth.rig import DictTables, Now, make_store, permission
from tests.support.auth_model import AuthModel, Refused

users = st.sampled_from(["root", "u", "v", ""])
roles = st.sampled_from(["root", "r", "s", ""])
keys = st.sampled_from([b"", b"\x00", b"a", b"b", b"c", b"d"])
ends = st.sampled_from([b"", b"\x00", b"b", b"c", b"e"])
kinds = st.integers(0, 2)


class AuthMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.model = AuthModel()
        self.tables = DictTables()
        self.tokens = SimpleTokens(300, Now())
        self.store = make_store(self.tables, self.tokens)
        self.index = 0

    def both(self, ours: Callable[..., Any], model: Callable[..., Any], *arguments: Any) -> None:
        outcomes = []
        for side in (ours, model):
            try:
                side(*arguments)
                outcomes.append("")
            except (errors.RequestError, Refused) as refusal:
                outcomes.append(str(refusal))
        assert outcomes[0] == outcomes[1], arguments

    @rule()
    def set_up(self) -> None:
        """What a history needs before it gets interesting."""
        self.add_user("root", b"", False)
        self.grant_role("root", "root")
        self.add_user("u", b"", False)
        self.add_role("r")
        self.grant_role("u", "r")
        self.switch(True)

    @rule(on=st.booleans())
    def switch(self, on: bool) -> None:
        name = "enable" if on else "disable"
        self.both(getattr(self.store, name), getattr(self.model, name))

    @rule(name=users, password=st.binary(max_size=2), no_password=st.booleans())
    def add_user(self, name: str, password: bytes, no_password: bool) -> None:
        self.both(self.store.add_user, self.model.add_user, name, password, no_password)

    @rule(name=users)
    def delete_user(self, name: str) -> None:
        self.both(self.store.delete_user, self.model.delete_user, name)

    @rule(name=users, password=st.binary(max_size=2))
    def change_password(self, name: str, password: bytes) -> None:
        self.both(self.store.change_password, self.model.change_password, name, password)

    @rule(name=users, role=roles)
    def grant_role(self, name: str, role: str) -> None:
        self.both(self.store.grant_role, self.model.grant_role, name, role)

    @rule(name=users, role=roles)
    def revoke_role(self, name: str, role: str) -> None:
        self.both(self.store.revoke_role, self.model.revoke_role, name, role)

    @rule(name=roles)
    def add_role(self, name: str) -> None:
        self.both(self.store.add_role, self.model.add_role, name)

    @rule(name=roles)
    def delete_role(self, name: str) -> None:
        self.both(self.store.delete_role, self.model.delete_role, name)

    @rule(name=roles, kind=kinds, key=keys, end=ends)
    def grant_permission(self, name: str, kind: int, key: bytes, end: bytes) -> None:
        def grant(name: str, kind: int, key: bytes, end: bytes) -> None:
            self.store.grant_permission(name, permission(kind, key, end))

        self.both(grant, self.model.grant_permission, name, kind, key, end)

    @rule(name=roles, key=keys, end=ends)
    def revoke_permission(self, name: str, key: bytes, end: bytes) -> None:
        self.both(self.store.revoke_permission, self.model.revoke_permission, name, key, end)

    @precondition(lambda self: self.model.enabled)
    @rule(name=users)
    def log_in(self, name: str) -> None:
        self.index += 1
        try:
            token = self.store.authenticate(name, "t", self.index)
        except errors.RequestError:
            assert name not in self.model.users or self.model.no_password[name]
        else:
            self.model.tokens[token] = name

    @rule()
    def restart(self) -> None:
        """Tokens are in memory only; everything else is in the tables."""
        self.tokens = SimpleTokens(300, Now())
        self.model.tokens.clear()
        self.store = make_store(self.tables, self.tokens)

    @invariant()
    def state_is_the_same(self) -> None:
        store, model = self.store, self.model
        assert (store.is_enabled, store.revision) == (model.enabled, model.revision)
        assert store.user_names() == sorted(model.users)
        assert store.role_names() == sorted(model.roles)
        for name, granted in model.users.items():
            user = store.user(name)
            assert user is not None
            assert store.roles_of(name) == sorted(granted)
            assert user.password == model.passwords[name]
            assert user.options.no_password == model.no_password[name]
        for name, permissions in model.roles.items():
            if name != "root":
                stored = store.permissions_of(name)
                places = [(p.key, p.range_end) for p in stored]
                assert places == sorted(permissions)
                assert {(p.key, p.range_end): p.permType for p in stored} == permissions
        resolved = {}
        for token in list(model.tokens) + [f"t.{number}" for number in range(self.index + 1)]:
            try:
                resolved[token] = self.tokens.resolve(token, 1, self.index).username
            except errors.InvalidAuthToken:
                continue
        assert resolved == model.tokens

    @invariant()
    def verdicts_are_the_same(self) -> None:
        checker = Checker(self.store, lambda lease: [])
        requests = [
            (rpc_pb2.PutRequest(key=b"a"), True, b"a", b""),
            (rpc_pb2.RangeRequest(key=b"b"), False, b"b", b""),
            (rpc_pb2.RangeRequest(key=b"a", range_end=b"c"), False, b"a", b"c"),
            (rpc_pb2.DeleteRangeRequest(key=b"b", range_end=b"e"), True, b"b", b"e"),
            (rpc_pb2.RangeRequest(key=b"c", range_end=b"\x00"), False, b"c", b"\x00"),
        ]
        for name in ("root", "u", "v"):
            for request, is_write, key, end in requests:
                expected = not self.model.enabled or (
                    name in self.model.users and self.model.may(name, is_write, key, end)
                )
                try:
                    checker.permit(Identity(name, self.store.revision), request)
                    allowed = True
                except errors.PermissionDenied:
                    allowed = False
                assert allowed is expected, (name, request)


TestAuthMachine = AuthMachine.TestCase
TestAuthMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
