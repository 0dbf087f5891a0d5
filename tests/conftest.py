"""For every test: programs that a test starts can be interrupted.

A shell starts background jobs with SIGINT ignored, and what is ignored stays ignored in the
programs that such a job starts: etcdctl would then not end where a test interrupts it.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
