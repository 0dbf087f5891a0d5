"""The overview's socket: who may hold one, how it ends, what it sends (console.md §7)."""

from __future__ import annotations

from importlib import import_module

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

from console import live
from console.asgi import application
from console.models import Account, Cluster
from console.overview import consumer
from console.roles import Role
from tests.console.conftest import make_account
from tests.support.servers import Server

pytestmark = pytest.mark.django_db(transaction=True)

PATH = "/ws/c/one/overview"
SECONDS_MAX = 60


def session_of(account: Account) -> str:
    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(account.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = account.get_session_auth_hash()
    session.save()
    return session.session_key


@sync_to_async
def viewer(server: Server) -> str:
    """A session whose account may look at the cluster."""
    cluster = Cluster.objects.create(slug="one", name="one", endpoints=server.client_url)
    return session_of(make_account("vera", cluster, Role.VIEWER))


def socket(session: str | None, path: str = PATH, origin: str = "http://testserver"):
    headers = [(b"host", b"testserver"), (b"origin", origin.encode())]
    if session:
        headers.append((b"cookie", f"{settings.SESSION_COOKIE_NAME}={session}".encode()))
    return WebsocketCommunicator(application, path, headers=headers)


async def closed_with(communicator: WebsocketCommunicator) -> int:
    """Accepted first, then closed: a refusal before accepting would be retried for ever."""
    accepted, _ = await communicator.connect(timeout=SECONDS_MAX)
    assert accepted
    message = await communicator.receive_output(timeout=SECONDS_MAX)
    while message["type"] == "websocket.send":
        message = await communicator.receive_output(timeout=SECONDS_MAX)
    assert message["type"] == "websocket.close"
    return message["code"]


async def test_a_viewer_gets_the_fragments(server: Server) -> None:
    communicator = socket(await viewer(server))
    await communicator.connect(timeout=SECONDS_MAX)
    blocks = await communicator.receive_from(timeout=SECONDS_MAX)
    rows = await communicator.receive_from(timeout=SECONDS_MAX)
    assert 'id="health-sentence" hx-swap-oob="true"' in blocks
    assert 'id="figures" hx-swap-oob="true"' in blocks
    assert '<tbody id="member-rows" hx-swap-oob="true">' in rows
    await communicator.disconnect(timeout=SECONDS_MAX)


async def test_only_what_changed_is_sent_again(server: Server, store, prefix, monkeypatch) -> None:
    monkeypatch.setattr(consumer, "TICK_SECONDS", 0.01)
    monkeypatch.setattr("console.overview.sampler.SHARED_SECONDS", 0.0)
    communicator = socket(await viewer(server))
    await communicator.connect(timeout=SECONDS_MAX)
    await communicator.receive_from(timeout=SECONDS_MAX)
    assert "<tbody" in await communicator.receive_from(timeout=SECONDS_MAX)
    revision = await sync_to_async(store.put)(prefix, b"v")
    frames = []
    while not any("figures" in frame and f"{revision % 1000:03d}" in frame for frame in frames):
        frames.append(await communicator.receive_from(timeout=SECONDS_MAX))
        assert "health-sentence" not in frames[-1]  # the sentence stayed as it was
        assert "<tbody" not in frames[-1]
    await communicator.disconnect(timeout=SECONDS_MAX)


async def test_without_a_session_it_ends_with_4401(server: Server) -> None:
    await viewer(server)
    assert await closed_with(socket(None)) == 4401
    assert await closed_with(socket("x" * 32)) == 4401


@pytest.mark.parametrize("origin", ["https://evil.example", "http://testserver:81", "null", ""])
async def test_a_foreign_origin_ends_with_4403(server: Server, origin: str) -> None:
    assert await closed_with(socket(await viewer(server), origin=origin)) == 4403


async def test_without_a_role_it_ends_with_4403(server: Server) -> None:
    await viewer(server)
    session = await sync_to_async(lambda: session_of(make_account("nobody")))()
    assert await closed_with(socket(session)) == 4403


@pytest.mark.parametrize("path", ["/ws/c/other/overview", "/ws/nothing"])
async def test_a_socket_that_does_not_exist_ends_with_4403(server: Server, path: str) -> None:
    assert await closed_with(socket(await viewer(server), path)) == 4403


@pytest.mark.parametrize("loss", ["signed out", "role taken", "may not sign in"])
async def test_a_right_lost_while_open_ends_it(server: Server, monkeypatch, loss: str) -> None:
    monkeypatch.setattr(live, "RECHECK_SECONDS", 0.05)
    session = await viewer(server)
    communicator = socket(session)
    await communicator.connect(timeout=SECONDS_MAX)

    @sync_to_async
    def lose() -> None:
        if loss == "signed out":
            import_module(settings.SESSION_ENGINE).SessionStore(session).delete()
        elif loss == "role taken":
            Account.objects.get(username="vera").grants.all().delete()
        else:
            Account.objects.filter(username="vera").update(is_active=False)

    await lose()
    message = await communicator.receive_output(timeout=SECONDS_MAX)
    while message["type"] != "websocket.close":
        message = await communicator.receive_output(timeout=SECONDS_MAX)
    assert message["code"] == (4403 if loss == "role taken" else 4401)
