"""The multi-version store: the key index in memory, the records in the backend (design D3-D6).

    revision.py      revision keys: how a revision is written and compared
    kv_codec.py      encoded KeyValues and response fields, by hand
    event.py         one change, as watchers get it
    key_index.py     the history of one key
    index.py         all keys: live, dead, their revisions; counting
    store.py         writes and reads; the only thing others hold
    range.py         the Range query, its validation, the cursor; range_slices.py does the work
    range_stream.py  RangeStream
    compare.py       compares of transactions
    txn.py           transactions: choose, check, run; txn_check.py what may come at all
    history.py       past revisions as events
    compaction.py    the removal of what nobody may read any more
    hash.py          HashKV
    restore.py       the index rebuilt at start
    backend/         the records on disk

A Put goes: `Store.put` -> `Index.put` (the revision it gets and the generation it belongs to) ->
`encode_kv` -> `Backend.append` -> an Event. A Range goes: `RangeQuery` -> positions in the ordered
live keys -> their revision keys -> `Backend.get_many` -> the records joined as they are.

Invariants
- One applied request takes one revision or none (spec/kv.md M3); it fails before its first change
  or not at all.
- What the index and the backend say about a revision never changes until a compaction removes it.
- The revision never goes back, the compact revision neither (Z5).
- No request of unbounded size holds the loop: long work comes as a cursor or a job with `step`.
  The exceptions are writes, which are one moment by definition, and reads inside transactions.
"""
