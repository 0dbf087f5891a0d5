"""What of a request may stand in a log (spec/observability.md §6)."""

from kvserver.apply.redacted import TEXT_CHARACTERS_MAX, redacted
from kvserver.proto import internal_pb2, rpc_pb2

SECRET = b"sesame"


def test_values_become_their_sizes() -> None:
    put = rpc_pb2.PutRequest(key=b"k", value=SECRET, lease=7)
    assert redacted(put) == 'key: "k" lease: 7 value_size:6'
    assert redacted(rpc_pb2.PutRequest()) == "value_size:0"
    assert redacted(rpc_pb2.RangeRequest(key=b"a", limit=3)) == 'key: "a" limit: 3'


def test_no_value_is_found_however_deep() -> None:
    """In comparisons, in both branches, and in transactions within them."""
    put = rpc_pb2.RequestOp(request_put=rpc_pb2.PutRequest(key=b"k", value=SECRET))
    compare = rpc_pb2.Compare(key=b"k", target=rpc_pb2.Compare.VALUE, value=SECRET)
    inner = rpc_pb2.TxnRequest(compare=[compare], success=[put], failure=[put])
    outer = rpc_pb2.TxnRequest(
        compare=[compare], success=[put, rpc_pb2.RequestOp(request_txn=inner)], failure=[put]
    )
    text = redacted(outer)
    assert "sesame" not in text
    assert text.count("value_size:6") == 6
    assert "\n" not in text


def test_nothing_of_users_is_told() -> None:
    for request in (
        rpc_pb2.AuthUserAddRequest(name="n", password="sesame"),
        rpc_pb2.AuthUserChangePasswordRequest(name="n", hashedPassword="sesame"),
        rpc_pb2.AuthenticateRequest(name="n", password="sesame"),
        internal_pb2.InternalAuthenticateRequest(name="n", simple_token="sesame"),
    ):
        assert redacted(request) == ""


def test_a_long_request_is_cut() -> None:
    text = redacted(rpc_pb2.RangeRequest(key=b"x" * 10_000))
    assert len(text) == TEXT_CHARACTERS_MAX + 1
