"""Chaos: a cluster of real processes under load, broken in many ways, and judged.

    cluster.py   the members, started, ended and replaced, on a network that breaks: the proxy
                 (tests/support/peer_proxy.py) or namespaces.py
    disks.py     small file systems to be filled up
    load.py      clients that write and read and keep a history of what they were told
    watching.py  watches that resume on whatever member answers
    leases.py    a client whose keys live on leases, renewed for a while and then left
    faults.py    what is broken; plan.py: what of it in which round, by the seed
    rounds.py    one round: break, heal, wait until all serve
    verdict.py   what must hold at the end of a round
    journal.py   what is kept of a round that went wrong

`python -m tests.support.chaos --minutes 10` (`make chaos MINUTES=10`) goes on round after round.
The seed decides what is broken, whom it strikes and what the clients ask; the processes and the
machine decide the rest, so a seed repeats the story and not every byte of it.
"""
