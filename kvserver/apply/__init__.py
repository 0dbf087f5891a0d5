"""From committed log entries to state: the command envelope and the applier.

An apply is deterministic: no clock, no randomness, nothing of this member alone decides its
outcome, so every member ends in the same state. It imports no I/O; time is an argument.
"""
