"""A member as a pure object: proposals and who waits for them, reads, applying, lease duty.

No I/O and no clock here: `kvserver.runtime` feeds it what the disk, the network and the clock
say, and executes the duties it returns.
"""
