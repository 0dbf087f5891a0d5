"""Which tests run side by side: `pytest -n 2`, as `make test` and CI do.

A module is one piece of work, so that its servers and browsers are started once. Modules that start
processes, and those of whole clusters most of all, wait more than they compute, and would disturb
each other; modules that start none compute. One worker therefore begins with the first kind and the
others with the second, until they meet. What breaks clusters of processes on purpose (`ALONE`)
comes when everything else is done, and has the machine for itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ALONE = ("tests/e2e/chaos/", "tests/bench/")
WITH_PROCESSES = (
    "tests/e2e/",
    "tests/compat/",
    "tests/console/",
    "tests/client/",
    "tests/discovery/",
    "tests/wal/test_wal_compat",
    "tests/auth/test_auth_servers",
    "tests/services/",
)
"""In the order in which they begin."""


def in_order(modules: Iterable[str]) -> list[str]:
    """From the one worker's end to the others'."""

    def place(module: str) -> tuple[int, str]:
        found = (n for n, start in enumerate(WITH_PROCESSES) if module.startswith(start))
        return next(found, len(WITH_PROCESSES)), module

    return sorted(modules, key=place)


class Lanes(LoadScopeScheduling):
    """Owner: xdist's controller, which calls in from one thread.

    The first worker, the keeper, is the one that is left alone with the machine at the end.
    """

    @property
    def _keeper(self) -> WorkerController:
        return self.nodes[0]

    def _split_scope(self, nodeid: str) -> str:
        return nodeid.partition("::")[0]

    def _next_for(self, node: WorkerController) -> str | None:
        """The module that this worker is to begin with, if it may begin with one."""
        together = in_order(m for m in self.workqueue if not m.startswith(ALONE))
        if together:
            return together[0 if node is self._keeper else -1]
        others = (work for other, work in self.assigned_work.items() if other is not node)
        if node is self._keeper and not any(map(self._pending_of, others)):
            return next(iter(self.workqueue), None)
        return None

    def _assign_work_unit(self, node: WorkerController) -> None:
        module = self._next_for(node)
        if module is not None:
            self.workqueue.move_to_end(module, last=False)
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down or not self.workqueue or self._next_for(node) is not None:
            super()._reschedule(node)
        elif node is not self._keeper:
            # It runs the last test it was given only when it knows that no other follows.
            node.shutdown()
            self._reschedule(self._keeper)

    def mark_test_complete(
        self, node: WorkerController, item_index: int, duration: float = 0
    ) -> None:
        super().mark_test_complete(node, item_index, duration)
        self._reschedule(self._keeper)
