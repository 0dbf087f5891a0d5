"""`manage.py serve`: a member, or a cluster of several, and its console, from nothing, in one
command."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from console.gateway import check_endpoint, clients
from console.maintenance.jobs import mark_interrupted
from console.maintenance.scheduler import scheduler
from console.maintenance.snapshot_job import discard_unfinished
from console.sampling.recorder import recorder
from console.serving.first_start import (
    bootstrap_admin,
    create_files,
    migrate,
    register_connection,
)
from console.serving.member import HOST, ChildMembers, MemberFailed, Place, places
from console.serving.ports import taken


class Command(BaseCommand):
    help = "Start one member, or several, and the web console. Ctrl-C stops everything."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--data-dir",
            default=str(settings.DATA_DIR),
            help="where everything is kept (default: ./data, or KEYDECK_DATA_DIR)",
        )
        parser.add_argument(
            "--members",
            type=int,
            choices=(1, 3, 5),
            default=1,
            help="how many, all on this machine; each next one's ports are ten higher",
        )
        parser.add_argument("--client-port", type=int, default=2379, help="the member's clients")
        parser.add_argument("--peer-port", type=int, default=2380, help="the member's peers")
        parser.add_argument("--console-port", type=int, default=8000, help="the web console")
        parser.add_argument(
            "--console-host", default=HOST, help="where the console listens (default: %(default)s)"
        )
        parser.add_argument(
            "--no-member", action="store_true", help="start no member: use --endpoints"
        )
        parser.add_argument(
            "--endpoints",
            default="",
            help="with --no-member: client addresses of a cluster, with commas in between",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        os.umask(0o077)
        # Until the reactor has its own handlers, ending means unwinding, as for Ctrl-C.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            self._run(options)
        except KeyboardInterrupt:
            self.stdout.write("Stopped before it was ready.")

    def _run(self, options: dict[str, Any]) -> None:
        cluster = [] if options["no_member"] else self._places(options)
        endpoints = self._endpoints(options, cluster)
        self._check_ports(options, cluster)
        create_files(settings.DATA_DIR, settings.CONSOLE_DIR)
        migrate()
        mark_interrupted()
        discard_unfinished()
        members = ChildMembers(cluster)
        try:
            self._start(members)
            password = bootstrap_admin()
            register_connection(self._name(options), endpoints)
            if password:
                self._announce_password(password)
            self._serve_console(options, members, partial(self._announce, options, endpoints))
        finally:
            clients.close()
            members.stop()
        self.stdout.write("Stopped.")

    def _name(self, options: dict[str, Any]) -> str:
        if options["no_member"]:
            return "existing cluster"
        return "local" if options["members"] == 1 else f"local, {options['members']} members"

    def _places(self, options: dict[str, Any]) -> list[Place]:
        directory = Path(settings.DATA_DIR)
        return places(directory, options["members"], options["client_port"], options["peer_port"])

    def _endpoints(self, options: dict[str, Any], cluster: list[Place]) -> list[str]:
        if cluster:
            if options["endpoints"]:
                raise CommandError("--endpoints goes with --no-member")
            return [place.client_url for place in cluster]
        words = options["endpoints"].replace(",", " ").split()
        if not words:
            raise CommandError("--no-member needs --endpoints http://host:port,...")
        try:
            return [check_endpoint(word) for word in words]
        except ValueError as error:
            raise CommandError(f"--endpoints: {error}") from None

    def _check_ports(self, options: dict[str, Any], cluster: list[Place]) -> None:
        wanted = [("--console-port", options["console_host"], options["console_port"])]
        for place in cluster:
            wanted += [
                ("--client-port", HOST, place.client_port),
                ("--peer-port", HOST, place.peer_port),
            ]
        for flag, host, port in wanted:
            if taken(host, port):
                raise CommandError(
                    f"{host}:{port} is in use by another program: end it, or choose another"
                    f" port with {flag}"
                )

    def _start(self, members: ChildMembers) -> None:
        try:
            members.start()
        except MemberFailed as error:
            raise CommandError(str(error)) from None

    def _announce_password(self, password: str) -> None:
        """At once: it is stored as a hash by now and cannot be told again."""
        self.stdout.write("")
        self.stdout.write("  First start. Sign in as  admin")
        self.stdout.write(f"  with the password        {password}")
        self.stdout.write("  It is shown this once; change it in the account menu.")
        self.stdout.flush()

    def _announce(self, options: dict[str, Any], endpoints: list[str]) -> None:
        address = f"http://{options['console_host']}:{options['console_port']}"
        self.stdout.write("")
        self.stdout.write(f"  Console   {address}")
        self.stdout.write(f"  Cluster   {', '.join(endpoints)}")
        self.stdout.write(f"  Data      {settings.DATA_DIR}")
        self.stdout.write("")
        self.stdout.write("  Ctrl-C stops it.")
        self.stdout.flush()

    def _serve_console(
        self, options: dict[str, Any], members: ChildMembers, ready: Callable[[], None]
    ) -> None:
        """Runs until SIGINT or SIGTERM, or until the last member has ended by itself."""
        # Importing daphne's server installs its reactor, which only the process that serves wants,
        # and wants before anything else asks for one.
        from console.serving.server import ConsoleServer  # isort: skip
        from daphne.endpoints import build_endpoint_description_strings
        from twisted.internet import reactor

        from console.asgi import application

        ended: list[int] = []

        def member_ended(name: str, status: int, is_last: bool) -> None:
            if is_last:
                ended.append(status)
                reactor.callFromThread(reactor.stop)
            else:
                self.stdout.write(f"  {name} ended with status {status}; the others go on.")
                self.stdout.flush()

        members.on_end(member_ended)
        tickers = (scheduler(), recorder())
        for ticker in tickers:
            ticker.begin()
        server = ConsoleServer(
            application=application,
            endpoints=build_endpoint_description_strings(
                host=options["console_host"], port=options["console_port"]
            ),
            server_name="keydeck",
            ready_callable=ready,
            websocket_handshake_timeout=10,
            application_close_timeout=5,
        )
        try:
            server.run()
        finally:
            for ticker in tickers:
                ticker.stop()
        if ended:
            raise CommandError(f"the member ended by itself with status {ended[0]}")
