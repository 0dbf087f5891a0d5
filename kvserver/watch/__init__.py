"""Watches: from applied revisions to responses on many streams (spec/watch.md).

A watcher is a cursor over revisions. A live one is handed each revision as it is applied; a
lagging one reads the store from its cursor until it has caught up. Nothing is buffered per watcher:
when a stream takes no more, its watchers merely stop being live. So memory is bounded by what the
streams queue, and no event can be lost, repeated or overtaken (design D7).

`hub` moves watchers between phases, `stream` answers requests, `live` finds the watchers of a key,
`catch_up` serves history in slices (`slice`), `encoded` and `messages` make the bytes.
"""

from kvserver.watch.hub import Hub
from kvserver.watch.stream import WatchStream

__all__ = ["Hub", "WatchStream"]
