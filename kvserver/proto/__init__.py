"""Wire messages: our .proto sources and the code generated from them.

`make proto` regenerates every `*_pb2.py`, `*_pb2.pyi` and `*_pb2_grpc.py` here. The sources are
written from spec/wire-api.md and spec/raft-wire.md; field numbers are the wire's and never change.
"""
