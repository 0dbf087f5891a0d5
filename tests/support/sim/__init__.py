"""The cluster simulator: the real member, from `kvserver.core` inwards, in one thread.

    world      one time, one queue of what happens, the trace
    loop       an asyncio loop and the clocks of a machine on the world's time
    disk       files that forget, databases that keep what was flushed; threads as queues of jobs
    network    links and what becomes of packets; the network and HTTP client of one member
    transfer   whole databases between members
    machine    a machine, and the process of a member that lives on it now and then
    calls      calls and streams of clients
    clients  leases  watching  admin     who calls, and what each may rely on
    users  hashing    who logs in, who changes their rights; hashes of no cost
    faults     what a seed means, and the nemesis that carries it out
    witness    who sees everything: the invariants after every step
    auth_witness    the same for users, roles, verdicts and tokens
    cluster    one run, from its start to the verdict
    scripted   a cluster to which a test does things one by one
    hunt       the command: replay a seed, or hunt over many

A seed is a run: the same trace, line by line, in any process. Nothing here reads a clock or uses
chance that is not the seed's.
"""
