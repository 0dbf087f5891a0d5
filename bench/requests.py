"""Request bodies, made by hand for the hot ones: a million of them must not take a minute."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache

from kvserver.proto import rpc_pb2 as rpc

VALUE = bytes(range(33, 97)) * 4
"""256 bytes, as every figure of the design is about."""
assert len(VALUE) == 256

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
TXN = "/etcdserverpb.KV/Txn"


def key(index: int, prefix: bytes = b"/bench/k/") -> bytes:
    return b"%s%010d" % (prefix, index)


@cache
def _value_field() -> bytes:
    return rpc.PutRequest(value=VALUE).SerializeToString()


def put_bodies(first: int, count: int, prefix: bytes = b"/bench/k/") -> list[bytes]:
    """Puts of `count` successive keys."""
    value = _value_field()
    tag = b"\x0a" + struct.pack("B", len(key(0, prefix)))
    return [b"%s%s%010d%s" % (tag, prefix, i, value) for i in range(first, first + count)]


def put_cycle(keys: int, count: int, prefix: bytes) -> list[bytes]:
    """`count` puts that go round `keys` keys."""
    once = put_bodies(0, keys, prefix)
    return (once * (count // keys + 1))[:count]


def get_bodies(keys: int, count: int, *, serializable: bool) -> list[bytes]:
    """Single-key reads that stride over the first `keys` keys."""
    suffix = b"\x38\x01" if serializable else b""
    tag = b"\x0a" + struct.pack("B", len(key(0)))
    stride = 7919
    return [tag + key(i * stride % keys) + suffix for i in range(count)]


def range_bodies(first: Sequence[int], limit: int, prefix: bytes = b"/bench/k/") -> list[bytes]:
    """Pages: from each index of `first` to the end of the prefix, at most `limit` keys."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])
    return [
        rpc.RangeRequest(key=key(i, prefix), range_end=end, limit=limit).SerializeToString()
        for i in first
    ]


def create_bodies(first: int, count: int, prefix: bytes) -> list[bytes]:
    """Transactions as Kubernetes creates objects: if the key is absent put it, else read it."""
    return [_create(key(i, prefix)) for i in range(first, first + count)]


def _create(name: bytes) -> bytes:
    absent = rpc.Compare(target=rpc.Compare.MOD, result=rpc.Compare.EQUAL, key=name, mod_revision=0)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=VALUE))
    read = rpc.RequestOp(request_range=rpc.RangeRequest(key=name))
    return rpc.TxnRequest(compare=[absent], success=[put], failure=[read]).SerializeToString()
