"""Snapshots in etcd's own format, out of and into this server (design D11; spec/bbolt.md).

A snapshot is a bbolt database image, in a file followed by the SHA-256 of it. Our own data live in
LMDB; here the ten tables become an image and an image becomes a data directory.

    bbolt.py        the file format: pages, metas, elements
    writer.py       a writer fed with ascending pairs, in one pass and constant memory
    reader.py       a reader that trusts nothing it reads
    tables.py       what etcd keeps in an image, taken from a view of the backend
    spool.py        one image into a temporary file, in slices the loop can afford
    digest.py       the SHA-256 behind an image in a file
    status.py       hash, revision, records and size of an image, as etcd's tools tell them
    importer.py     an image's records into our tables
    restore.py      an image becomes the data directory of a new member

The writer keeps more rules than a reader needs, because etcd modifies the image later and checks
nothing then (spec/bbolt.md F14): every branch page has at least two children, and its keys are
the first keys of its children, byte for byte.
"""
