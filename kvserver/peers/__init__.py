"""The protocol between members: raft's messages over HTTP/1.1, as etcd speaks it (spec/peer.md).

The side that GETs a stream is the one that receives messages; the side that answers writes them
into the endless body. So each pair of members has four long-lived connections.

    frames.py       the bytes of the two kinds of stream, both ways
    foreseen.py     decoders for what a stream says again and again
    identity.py     who we are in headers, and the checks of whoever calls
    client.py       HTTP/1.1 as a client: short requests and endless bodies
    outgoing.py     one attached stream: a bounded queue that is the body of a response
    dialler.py      keeps one stream open at one peer and reads it
    pipeline.py     single messages by POST, while there is no stream
    peer.py         one other member: chooses the channel for a message
    network.py      all other members: what the member loop sends to and hears from
    server.py       the peer port's /raft endpoints
    snapshot_sender.py, snapshot_receiver.py, envelope.py   whole databases, out and in

Nothing here waits for the network on behalf of raft: a full queue drops the message and says so.
Owner of everything: the event loop.
"""
