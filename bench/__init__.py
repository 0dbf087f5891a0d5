"""The comparison with etcd: one command, one table.

`python -m bench` starts a real etcd and Keydeck with the same settings and fresh data directories
on the same disk, drives both with the same generator in the same run, in alternating order, and
prints ratios. Nothing here is asserted; figures are for reading and for ARCHITECTURE.md.
"""
