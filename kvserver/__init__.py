"""Keydeck's server: an etcd-v3-compatible key-value store.

The house is explained in ARCHITECTURE.md; the rules it follows are cited as
`spec/<page>.md <rule>`.
"""

__version__ = "0.1.0"
