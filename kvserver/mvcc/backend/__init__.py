"""Everything a member keeps on disk except its write-ahead log (design D3, D4; spec/storage.md §4).

State is three layers, newest first: the *active* write buffer (a dict, filled by apply), the buffer
*being flushed* (frozen, being written by the flush thread) and LMDB. Reads look in that order, so
nothing on the loop waits for a disk.

    api.py           the interface: `Backend`, its jobs, its values
    tables.py        the tables of the file
    write_buffer.py  what apply has changed since the last flush
    memory.py        `MemoryBackend`, a fake that loses exactly what a crash would lose
    lmdb.py          `LmdbBackend`, the real one; environment.py opens and sizes its file
    flush.py         one buffer into one LMDB transaction, in slices the loop grants
    defragment.py    a compact copy beside running writes, then the swap
    snapshot.py      a read-only view that stands still

The invariant above all others: `consistent_index` and the effects of the entries up to it are one
LMDB transaction (spec/storage.md §4.2, §7.6). A crash therefore leaves an exact past state, and the
log brings it forward.
"""
