"""Keydeck beside real etcds: the same operations, the same answers; etcd's own clients against us.

`driver` runs operations on one member in a process of its own, `operations` invents them from a
seed, `compare` says which answers are equal, and `differences` lists the rules by which releases
of etcd differ from one another, each with its citation.
"""
