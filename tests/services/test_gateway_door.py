"""Who may use the client port over HTTP (spec/wire-api.md §3.4, §4.5, §4.7)."""

from __future__ import annotations

from typing import Any

import pytest

from kvserver.services.gateway import ClientApp, Door
from kvserver.services.gateway.metadata import metadata_of, timeout_of
from kvserver.services.http import TEXT
from kvserver.transport import HttpRequest, HttpResponse, Peer

PAGE = {"origin": "https://evil.example", "host": "127.0.0.1:2379"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


class FakeAccess:
    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal

    def gateway_refusal(self, common_name: str | None) -> str | None:
        return self.refusal if common_name else None


class FakeGateway:
    async def answer(self, path: str, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, {}, path.encode())

    def wants_body_stream(self, path: str) -> bool:
        return path == "/v3/watch"


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse(404, TEXT, b"plain")


def app(
    cors: tuple[str, ...] = ("*",),
    hosts: tuple[str, ...] = ("*",),
    refusal: str | None = None,
    gateway: Any = FakeGateway(),
) -> ClientApp:
    return ClientApp(Door(FakeAccess(refusal), cors, hosts), gateway, plain)  # type: ignore[arg-type]


async def ask(
    subject: ClientApp,
    headers: dict[str, str] | None = None,
    path: str = "/v3/kv/put",
    method: str = "POST",
    peer: Peer = Peer("127.0.0.1:4000"),
) -> HttpResponse:
    return await subject(HttpRequest(method, path, "", headers or {}, b"", peer))


@pytest.mark.parametrize("headers", [{}, FORM, {"content-type": "text/plain"}])
async def test_a_client_that_is_no_page_may_send_what_it_likes(headers: dict[str, str]) -> None:
    assert (await ask(app(), headers)).status == 200
    assert (await ask(app(cors=("https://good.example",)), headers)).status == 200


async def test_any_page_may_by_default_but_not_with_a_form() -> None:
    assert (await ask(app(), PAGE | JSON)).status == 200
    assert (
        await ask(app(), PAGE | {"content-type": "application/json; charset=utf-8"})
    ).status == (200)
    for content in (FORM, {"content-type": "text/plain"}, {}):
        assert (await ask(app(), PAGE | content)).status == 415
        assert (await ask(app(), {"sec-fetch-site": "cross-site"} | content)).status == 415


async def test_only_named_origins_may() -> None:
    subject = app(cors=("https://good.example",))
    good = await ask(subject, PAGE | JSON | {"origin": "https://good.example"})
    assert good.status == 200
    assert good.headers["Access-Control-Allow-Origin"] == "https://good.example"
    for headers in (PAGE, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        bad = await ask(subject, headers | JSON)
        assert bad.status == 403
        assert "Access-Control-Allow-Origin" not in bad.headers


async def test_a_page_of_our_own_host_may() -> None:
    own = {"origin": "http://127.0.0.1:2379", "host": "127.0.0.1:2379"}
    assert (await ask(app(cors=("https://good.example",)), own | JSON)).status == 200


async def test_an_origin_that_is_no_url_is_foreign() -> None:
    headers = {"origin": "http://[::1", "host": "x"}
    assert (await ask(app(cors=("https://good.example",)), headers | JSON)).status == 403


async def test_pages_are_not_asked_about_plain_endpoints() -> None:
    subject = app(cors=("https://good.example",))
    assert (await ask(subject, PAGE, "/health", "GET")).body == b"plain"


async def test_preflights_are_answered_everywhere() -> None:
    """§4.7"""
    for path in ("/v3/kv/put", "/what"):
        response = await ask(app(), PAGE, path, "OPTIONS")
        assert (response.status, response.body) == (200, b"")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Access-Control-Allow-Headers"] == (
            "accept, content-type, authorization"
        )
        assert response.headers["Access-Control-Allow-Methods"] == (
            "POST, GET, OPTIONS, PUT, DELETE"
        )


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("good", 200),
        ("good:2379", 200),
        ("evil", 421),
        ("good.evil:2379", 421),
        ("", 421),
        ("[::1]:2379", 200),
        ("[::1]", 200),
        ("::1", 200),
    ],
)
async def test_host_names(host: str, status: int) -> None:
    """§3.4: in plain text only names of the whitelist; over TLS any."""
    subject = app(hosts=("good", "::1"))
    assert (await ask(subject, {"host": host})).status == status
    assert (await ask(subject, {"host": host}, "/version", "GET")).status in (status, 404)
    assert (await ask(subject, {"host": host}, peer=Peer("1.2.3.4:5", is_tls=True))).status == 200


async def test_a_certificate_that_would_be_ignored_is_refused() -> None:
    """§4.5, only on the gateway's paths."""
    subject, peer = app(refusal="no"), Peer("1.2.3.4:5", True, "alice")
    refused = await ask(subject, peer=peer)
    assert (refused.status, refused.body) == (400, b"no\n")
    assert (await ask(subject, path="/health", method="GET", peer=peer)).body == b"plain"
    assert (await ask(subject)).status == 200


async def test_the_old_prefix_and_where_there_is_no_gateway() -> None:
    """§4.6"""
    assert (await ask(app(), path="/v3beta/kv/put")).body == b"/v3/kv/put"
    assert (await ask(app(), path="/v3alpha/kv/put")).body == b"plain"
    assert (await ask(app(gateway=None))).body == b"plain"
    assert app().wants_body_stream("POST", "/v3beta/watch")
    assert not app().wants_body_stream("GET", "/v3/watch")
    assert not app(gateway=None).wants_body_stream("POST", "/v3/watch")


# -- headers to metadata (§4.5)


def request(**headers: str) -> HttpRequest:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpRequest("POST", "/v3/kv/put", "", fields, b"", Peer("[::1]:4000"))


def test_metadata() -> None:
    metadata = metadata_of(
        request(
            authorization="tok", grpc_metadata_hasleader="true", cookie="c", host="h:1", x_other="o"
        )
    )
    assert metadata == {
        "authorization": "tok",
        "grpcgateway-authorization": "tok",
        "grpcgateway-accept": "",
        "grpcgateway-cookie": "c",
        "grpcgateway-host": "h:1",
        "hasleader": "true",
        "x-forwarded-host": "h:1",
        "x-forwarded-for": "[::1]",
    }
    proxied = metadata_of(request(accept="a", x_forwarded_for="10.0.0.1"))
    assert proxied["grpcgateway-accept"] == "a"
    assert proxied["x-forwarded-for"] == "10.0.0.1, [::1]"


@pytest.mark.parametrize(("text", "seconds"), [("5S", 5), ("300m", 0.3), ("2H", 7200), ("", None)])
def test_timeouts(text: str, seconds: float | None) -> None:
    assert timeout_of(request(grpc_timeout=text)) == seconds


@pytest.mark.parametrize("text", ["5", "S", "-5S", "5s", "5S ", "1.5S"])
def test_what_is_no_timeout(text: str) -> None:
    with pytest.raises(Exception, match=f"invalid grpc-timeout: {text}"):
        timeout_of(request(grpc_timeout=text))
