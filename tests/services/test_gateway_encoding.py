"""JSON to messages and back (spec/wire-api.md §4.1), and cutting a body into objects (§4.3)."""

from __future__ import annotations

import asyncio
import json

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from kvserver.errors import Code
from kvserver.proto import auth_pb2, rpc_pb2
from kvserver.services.gateway.objects import ObjectCutter
from kvserver.services.gateway.reading import BadJson, decode
from kvserver.services.gateway.writing import MESSAGES_PER_PAUSE, encode, encode_in_slices

KEY = b"\xfb\xff\x00k"


def put(**fields: object) -> rpc_pb2.PutRequest:
    message = decode(rpc_pb2.PutRequest, json.dumps(fields).encode())
    assert isinstance(message, rpc_pb2.PutRequest)
    return message


def refused(kind: type, text: str) -> str:
    with pytest.raises(BadJson) as caught:
        decode(kind, text.encode())
    assert caught.value.code is Code.INVALID_ARGUMENT
    return caught.value.message


@pytest.mark.parametrize("text", ["+/8Aaw==", "-_8Aaw==", "+/8Aaw", "-_8Aaw"])
def test_bytes_in_every_base64(text: str) -> None:
    assert put(key=text).key == KEY


@pytest.mark.parametrize("text", ["+_8Aaw==", "+/8Aaw=", "+/8 Aaw==", "a", "Z!9v", "Zm9v=", "é"])
def test_bytes_that_are_no_base64(text: str) -> None:
    assert "base64" in refused(rpc_pb2.PutRequest, json.dumps({"key": text}))


def test_both_forms_of_a_name() -> None:
    assert put(prev_kv=True) == put(prevKv=True) == rpc_pb2.PutRequest(prev_kv=True)


def test_null_and_unknown_fields_are_nothing() -> None:
    assert put(key=None, lease=None, nope={"x": [1]}) == rpc_pb2.PutRequest()


@pytest.mark.parametrize("value", [7, "7", 7.0])
def test_numbers(value: object) -> None:
    assert put(lease=value).lease == 7


@pytest.mark.parametrize("value", ["", "7.5", 7.5, True, "0x7", " 7", 2**63, "9" * 25, [7]])
def test_what_is_no_number(value: object) -> None:
    refused(rpc_pb2.PutRequest, json.dumps({"lease": value}))


def test_enums_by_name_and_number() -> None:
    for value in ("DESCEND", 2, "2"):
        if value == "2":
            refused(rpc_pb2.RangeRequest, '{"sort_order": "2"}')
            continue
        message = decode(rpc_pb2.RangeRequest, json.dumps({"sortOrder": value}).encode())
        assert message == rpc_pb2.RangeRequest(sort_order=rpc_pb2.RangeRequest.DESCEND)


def test_a_union_is_set_once() -> None:
    one = '{"key": "Zm9v", "create_revision": "0"}'
    compare = decode(rpc_pb2.Compare, one.encode())
    assert isinstance(compare, rpc_pb2.Compare)
    assert compare.WhichOneof("target_union") == "create_revision"
    refused(rpc_pb2.Compare, '{"version": 1, "value": "Zm9v"}')


def test_lists_and_inner_messages() -> None:
    text = '{"success": [{"request_range": {}}, {"requestPut": {"key": "Zm9v"}}], "failure": []}'
    request = decode(rpc_pb2.TxnRequest, text.encode())
    assert isinstance(request, rpc_pb2.TxnRequest)
    assert [op.WhichOneof("request") for op in request.success] == ["request_range", "request_put"]
    for bad in ('{"success": {}}', '{"success": [null]}', '{"success": ["x"]}'):
        refused(rpc_pb2.TxnRequest, bad)


@pytest.mark.parametrize("text", ["", "  \n", "null", "{}", "{} {", "{}garbage"])
def test_only_the_first_value_counts(text: str) -> None:
    assert decode(rpc_pb2.PutRequest, text.encode()) == rpc_pb2.PutRequest()


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '"x"', "{'key': 1}", '{"lease": NaN}', "[" * 100_000, "nul"]
)
def test_what_is_no_json_object(text: str) -> None:
    refused(rpc_pb2.PutRequest, text)


def test_what_is_no_text() -> None:
    with pytest.raises(BadJson):
        decode(rpc_pb2.PutRequest, b'{"key": "\xff"}')
    refused(rpc_pb2.AuthUserAddRequest, r'{"name": "\ud800"}')


def test_nested_too_deeply() -> None:
    deep = '{"success":[{"request_txn":' * 2000 + "{}" + "}]}" * 2000
    refused(rpc_pb2.TxnRequest, deep)


def test_out() -> None:
    """Names as defined, 64-bit numbers as text, 32-bit ones as numbers, defaults left out."""
    grant = rpc_pb2.LeaseGrantResponse(
        header=rpc_pb2.ResponseHeader(cluster_id=2**64 - 1, revision=3), ID=-7, TTL=60
    )
    assert json.loads(encode(grant)) == {
        "header": {"cluster_id": str(2**64 - 1), "revision": "3"},
        "ID": "-7",
        "TTL": "60",
    }
    assert json.loads(encode(rpc_pb2.HashResponse(hash=2**32 - 1))) == {"hash": 2**32 - 1}
    permission = auth_pb2.Permission(permType=auth_pb2.Permission.READWRITE, key=KEY)
    assert encode(permission) == b'{"permType":"READWRITE","key":"+/8Aaw=="}'
    assert encode(rpc_pb2.PutResponse()) == b"{}"


@given(st.binary(), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_there_and_back(key: bytes, lease: int, prev_kv: bool) -> None:
    request = rpc_pb2.PutRequest(key=key, lease=lease, prev_kv=prev_kv)
    assert decode(rpc_pb2.PutRequest, encode(request)) == request


def messages(descriptor: Descriptor, depth: int) -> st.SearchStrategy[Message]:
    """Messages of one type with anything in their fields."""
    fields = {}
    for field in descriptor.fields:
        value: st.SearchStrategy[object]
        if field.message_type is not None:
            if not depth:
                continue
            value = messages(field.message_type, depth - 1)
        elif field.enum_type is not None:
            value = st.sampled_from(list(field.enum_type.values_by_number)) | st.just(99)
        else:
            value = SCALARS[field.type]
        fields[field.name] = st.lists(value, max_size=2) if field.is_repeated else value
    kind = GetMessageClass(descriptor)
    return st.fixed_dictionaries({}, optional=fields).map(lambda found: kind(**found))


SCALARS = {
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=5),
    FieldDescriptor.TYPE_STRING: st.text(max_size=5),
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
}


@pytest.mark.parametrize(
    "kind",
    [
        rpc_pb2.TxnResponse,
        rpc_pb2.WatchResponse,
        rpc_pb2.AuthRoleGetResponse,
        rpc_pb2.AlarmResponse,
        rpc_pb2.StatusResponse,
        rpc_pb2.LeaseTimeToLiveResponse,
    ],
)
@given(data=st.data())
def test_out_is_what_the_library_writes(kind: type[Message], data: st.DataObject) -> None:
    message = data.draw(messages(kind.DESCRIPTOR, 3))
    library = json_format.MessageToDict(message, preserving_proto_field_name=True)
    assert json.loads(encode(message)) == library


async def test_large_answers_come_with_pauses() -> None:
    """design D6"""
    response = rpc_pb2.RangeResponse(kvs=[{"key": b"k", "version": 1}] * MESSAGES_PER_PAUSE * 3)
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_soon(turn)

    turn()
    assert await encode_in_slices(response) == encode(response)
    assert turns >= 3


# -- objects in a row

values = st.recursive(
    st.text() | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.lists(st.dictionaries(st.text(), values, max_size=3), max_size=4)


@given(objects, st.sampled_from(["", " ", "\n\t"]), st.lists(st.integers(0, 200)), st.booleans())
def test_however_the_body_is_cut(
    wanted: list[object], between: str, cuts: list[int], ascii_only: bool
) -> None:
    body = between.join(json.dumps(one, ensure_ascii=ascii_only) for one in wanted).encode(
        "utf-8", "surrogatepass"
    )
    places = sorted(cut for cut in cuts if cut < len(body))
    cutter = ObjectCutter(10_000)
    found = []
    for start, end in zip([0, *places], [*places, len(body)], strict=True):
        found += cutter.feed(body[start:end])
    cutter.end()
    assert [json.loads(one.decode("utf-8", "surrogatepass")) for one in found] == wanted


def test_an_object_that_does_not_end() -> None:
    cutter = ObjectCutter(100)
    assert cutter.feed(b'{"a": "}') == []
    with pytest.raises(BadJson):
        cutter.end()


def test_an_object_that_is_too_long() -> None:
    cutter = ObjectCutter(100)
    with pytest.raises(BadJson):
        cutter.feed(b'{"a": "' + b"x" * 100)


def test_long_objects_that_end_are_no_harm() -> None:
    assert len(ObjectCutter(10).feed(b'{"abcdefghijk": 1}' * 50)) == 50
