"""Were these calls answered as one store would have answered them, one after the other?

    report = check(operations, events=truth)
    assert report.is_linearizable, str(report)

Pure: no I/O, no clock. A history is any iterable of `Operation`s: who asked which member for what,
when it was sent, when its answer came, and the answer. Times are numbers of one clock of the
observer (seconds, ticks, a counter of steps): only their order matters, and a call precedes
another when it was complete *before* (not when) the other was sent.

    Operation("client-1", "m0", rpc.PutRequest(key=b"a", value=b"1"), 1.0, 1.2, answer)
    Operation("client-2", "m1", rpc.RangeRequest(key=b"a"), 1.1, 1.3, answer)
    Operation("client-3", "m1", rpc.PutRequest(key=b"a", value=b"2"), 1.1)   # no answer: unknown
    Operation("client-3", "m1", rpc.PutRequest(), 1.4, 1.5, is_refused=True) # surely did not happen

- Requests and answers are the messages of the wire. Put, DeleteRange, Txn (nested too), Range and
  LeaseRevoke are understood; any other call with a header counts for the revision it shows.
- No answer, or an error after which nobody knows: unknown. It may have happened once, at any time
  after it was sent, or never. A refusal (`is_refused`) must not have happened; when in doubt an
  error is unknown (`tests/support/outcomes.py` sorts errors of gRPC).
- A lease that may expire is a `LeaseRevokeRequest` of unknown outcome, sent when it was granted.
- `member` names one life of a member: after a crash its local reads may begin further back, so
  a caller that restarts members counts (`m0#2`). Only local reads look at it.
- `start` is the store before the first operation; without it, a fresh one (revision 1, empty).
- `events` is the true log, revision by revision, as `watch_checks` has it: from the state machine
  of a simulator, or from a watch on everything. With it each call is judged by itself and all that
  is wrong is reported. Without it the checker looks for a log that explains every answer: most of
  it is fixed by the headers of acknowledged writes and by the revisions in what was read; the
  revisions that nobody was told of are searched for among the calls of unknown outcome (Wing and
  Gong's search with Lowe's memory of configurations seen), up to `steps_max` trials.
  `report.is_undecided` says that the search gave up; `report.events` is the log it found.

What is checked (spec/kv.md §2, §8, E2, R12):

order      headers agree with real time: no write acknowledged in the past of a call that was
           complete before it was sent, no two writes at one revision, no linearizable answer older
           than one complete before it was sent, nothing read before it was sent
local      serializable reads never go back on one member, and show a state that was there
replay     every acknowledged write did at its revision exactly what it was asked, with the answer
           it gave; every read, serializable or not, shows the state of the revision in its header
origin     every revision comes from a call: acknowledged there, or of unknown outcome and sent
           before anybody saw it; each call happened at most once; refused ones did not

The transition itself (what a txn does to a state) is `tests/support/model.py`, which shares
nothing with the server. Compacted history is no matter: answers about it are refusals.
"""

from __future__ import annotations

from tests.support.linearizability.history import Operation, Report, Start, Violation
from tests.support.linearizability.judge import check

__all__ = ["Operation", "Report", "Start", "Violation", "check"]
