"""Random lease histories against a plain model: nothing dies early, nothing lives on."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvserver.errors import LeaseExist, LeaseNotFound
from kvserver.lease import Lessor

ids = st.integers(1, 6)
keys = st.sampled_from([b"a", b"b", b"c"])


class LeaseMachine(RuleBasedStateMachine):
    """One lessor, one clock, a dict of (granted, earliest end, latest end, keys)."""

    def __init__(self) -> None:
        super().__init__()
        self.lessor = Lessor(ttl_min=2, retry_seconds=3.0)
        self.now = 1000.0
        self.ttl: dict[int, int] = {}
        self.end: dict[int, float] = {}
        self.keys: dict[int, set[bytes]] = {}
        self.owner: dict[bytes, int] = {}

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 5.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(lease_id=ids, ttl=st.integers(-1, 40))
    def grant(self, lease_id: int, ttl: int) -> None:
        try:
            granted = self.lessor.grant(lease_id, ttl, self.now)
        except LeaseExist:
            assert lease_id in self.ttl
            return
        assert lease_id not in self.ttl and granted == max(ttl, 2)
        self.ttl[lease_id], self.keys[lease_id] = granted, set()
        self.end[lease_id] = self.now + granted

    @rule(lease_id=ids)
    def renew(self, lease_id: int) -> None:
        if not self.lessor.is_primary:
            return
        answer = self.lessor.renew(lease_id, self.now)
        if lease_id not in self.ttl:
            assert answer == 0
        elif self.end[lease_id] <= self.now:
            assert answer is None
        else:
            assert answer == self.ttl[lease_id]
            self.end[lease_id] = self.now + self.ttl[lease_id]

    @rule(lease_id=ids)
    def revoke(self, lease_id: int) -> None:
        try:
            found = self.lessor.revoke(lease_id)
        except LeaseNotFound:
            assert lease_id not in self.ttl
            return
        assert found == sorted(self.keys.pop(lease_id))
        del self.ttl[lease_id], self.end[lease_id]
        self.owner = {k: i for k, i in self.owner.items() if i != lease_id}

    @rule(lease_id=ids, key=keys)
    def put(self, lease_id: int, key: bytes) -> None:
        if lease_id not in self.ttl:
            assert not self.lessor.exists(lease_id)
            return
        old = self.owner.pop(key, None)
        if old is not None:
            self.lessor.detach(old, key)
            self.keys[old].discard(key)
        self.lessor.attach(lease_id, key)
        self.owner[key] = lease_id
        self.keys[lease_id].add(key)

    @rule(count=st.integers(1, 3))
    def expire(self, count: int) -> None:
        found = self.lessor.due(self.now, count)
        assert len(found) <= count
        assert self.lessor.is_primary or not found
        for lease_id in found:
            assert self.end[lease_id] <= self.now
        ends = [self.end[lease_id] for lease_id in found]
        assert ends == sorted(ends), "soonest first"
        for lease_id in found:
            self.revoke(lease_id)

    @rule(extend=st.sampled_from([0.0, 1.0, 10.0]))
    def promote(self, extend: float) -> None:
        self.lessor.promote(self.now, extend)
        for lease_id, ttl in self.ttl.items():
            self.end[lease_id] = self.now + extend + ttl

    @rule()
    def demote(self) -> None:
        self.lessor.demote()

    @rule()
    def restart(self) -> None:
        records = [(b"", self.lessor.record(i)) for i in self.ttl]
        self.lessor = Lessor(ttl_min=2)
        self.lessor.restore(records)
        for lease_id, owned in self.keys.items():
            for key in owned:
                self.lessor.attach(lease_id, key)

    @invariant()
    def agrees(self) -> None:
        assert sorted(self.lessor.leases()) == sorted(self.ttl)
        for lease_id in self.ttl:
            assert self.lessor.keys(lease_id) == sorted(self.keys[lease_id])
            if self.lessor.is_primary:
                left = int(self.end[lease_id] - self.now)
                assert self.lessor.time_to_live(lease_id, self.now) == (left, self.ttl[lease_id])

    def teardown(self) -> None:
        """In the end everything expires, once there is a primary."""
        self.promote(0.0)
        self.now += 100.0
        assert sorted(self.lessor.due(self.now, 100)) == sorted(self.ttl)


LeaseMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=50, deadline=None, derandomize=True
)
TestLeaseMachine = LeaseMachine.TestCase
