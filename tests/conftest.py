"""For every test: programs that a test starts can be interrupted; workers share the work in lanes.

A shell starts background jobs with SIGINT ignored, and what is ignored stays ignored in the
programs that such a job starts: etcdctl would then not end where a test interrupts it.
"""

import signal
from typing import Any

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.lanes import Lanes  # where there is xdist

    return Lanes(config, log)
