"""The console's ASGI application: Django for HTTP, Channels for websockets."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.sessions import CookieMiddleware  # noqa: E402
from django.urls import path  # noqa: E402

from console.keys.consumer import KeyJobConsumer  # noqa: E402
from console.live import NoSuchSocket  # noqa: E402
from console.maintenance.consumer import JobConsumer  # noqa: E402
from console.overview.consumer import OverviewConsumer  # noqa: E402
from console.serving.handler import Handler  # noqa: E402
from console.watch.consumer import WatchConsumer  # noqa: E402

sockets = [
    path("ws/c/<slug:cluster>/overview", OverviewConsumer.as_asgi()),
    path("ws/c/<slug:cluster>/jobs/<int:job>", JobConsumer.as_asgi()),
    path("ws/c/<slug:cluster>/keys/jobs/<int:job>", KeyJobConsumer.as_asgi()),
    path("ws/c/<slug:cluster>/watch", WatchConsumer.as_asgi()),
    path("<path:anything>", NoSuchSocket.as_asgi()),
]

application = ProtocolTypeRouter(
    {"http": Handler(), "websocket": CookieMiddleware(URLRouter(sockets))}
)
