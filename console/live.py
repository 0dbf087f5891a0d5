"""Websockets of live regions: who may hold one, and how it ends.

A socket is accepted and then closed with 4401 (sign in) or 4403 (not allowed): a refusal before
accepting looks like a broken network to the browser, and the extension would retry for ever
(console.md §7). Origin is checked like CSRF's; session, account and role are looked up again
while the socket is open, so a sign-out or a lost role ends it.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any, ClassVar
from urllib.parse import urlsplit

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.http.request import validate_host

from console.clusters.own import recall
from console.models import Account, Cluster
from console.roles import Role

CLOSE_SIGN_IN = 4401
CLOSE_FORBIDDEN = 4403
RECHECK_SECONDS = 10.0


class LiveConsumer(AsyncWebsocketConsumer):
    """One live region of one cluster. A subclass says what to send in `run`."""

    needs: ClassVar[Role] = Role.VIEWER
    cluster: Cluster

    async def connect(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        await self.accept()
        if not origin_is_ours(self.scope):
            await self.close(CLOSE_FORBIDDEN)
            return
        refusal = await self._look_again()
        if refusal:
            await self.close(refusal)
            return
        self._tasks = [asyncio.create_task(self._guard(self.run())), self._rechecking()]

    async def disconnect(self, code: int) -> None:
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Nothing a browser says changes what is sent."""

    async def run(self) -> None:
        raise NotImplementedError

    def _rechecking(self) -> asyncio.Task[None]:
        async def loop() -> None:
            while True:
                await asyncio.sleep(RECHECK_SECONDS)
                refusal = await self._look_again()
                if refusal:
                    await self.close(refusal)
                    return

        return asyncio.create_task(self._guard(loop()))

    async def _guard(self, work: Any) -> None:
        """A failure ends the socket with 1011, after which the browser comes back."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except Exception:
            await self.close(1011)
            raise

    async def _look_again(self) -> int | None:
        """The code to close with, or None when all is well."""
        key = self.scope["cookies"].get(settings.SESSION_COOKIE_NAME)
        slug = self.scope["url_route"]["kwargs"]["cluster"]
        refusal, cluster = await database_sync_to_async(admit)(key, slug, self.needs)
        if cluster is not None:
            self.cluster = cluster
        return refusal


class NoSuchSocket(AsyncWebsocketConsumer):
    async def connect(self) -> None:
        await self.accept()
        await self.close(CLOSE_FORBIDDEN)


def admit(session_key: str | None, slug: str, needs: Role) -> tuple[int | None, Cluster | None]:
    """Who holds the session now, and may they: a code to close with or the cluster."""
    account = account_of(session_key)
    if account is None or account.must_change_password:
        return CLOSE_SIGN_IN, None
    cluster = Cluster.objects.filter(slug=slug).first()
    role = account.role_on(cluster) if cluster else None
    if role is None or role < needs:
        return CLOSE_FORBIDDEN, None
    if cluster is not None and cluster.asks_sign_in:
        cluster.own = recall(session_of(session_key), cluster)
        if cluster.own is None:
            return CLOSE_SIGN_IN, None
    return None, cluster


def account_of(session_key: str | None) -> Account | None:
    """The account signed in on this session, by the same checks a page makes."""
    if not session_key:
        return None
    request = HttpRequest()
    request.session = session_of(session_key)
    account = get_user(request)
    return account if isinstance(account, Account) else None


def session_of(session_key: str | None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(session_key)


def origin_is_ours(scope: dict[str, Any]) -> bool:
    """The page that opened the socket came from this host. Browsers always say where from."""
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    origin = headers.get(b"origin", "")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    host = urlsplit(origin).netloc
    allowed = settings.ALLOWED_HOSTS
    return bool(host) and host == headers.get(b"host") and validate_host(_name(host), allowed)


def _name(netloc: str) -> str:
    """The host without its port, as ALLOWED_HOSTS writes it."""
    return netloc.rsplit(":", 1)[0] if not netloc.endswith("]") and ":" in netloc else netloc
