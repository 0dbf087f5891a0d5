"""For every test: programs that a test starts can be interrupted; workers share the work in lanes.

A shell starts background jobs with SIGINT ignored, and what is ignored stays ignored in the
programs that such a job starts: etcdctl would then not end where a test interrupts it.

Examples of hypothesis are the same in every run, and no run fails for the time they take; with
`--hypothesis-profile=hunt` each run has its own.
"""

import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

HOWEVER_SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", HOWEVER_SLOW, derandomize=True)
settings.register_profile("hunt", HOWEVER_SLOW, derandomize=False)
settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.lanes import Lanes  # where there is xdist

    return Lanes(config, log)
