"""Plain HTTP on the client port: /version, /health, /livez, /readyz, /metrics, /debug/vars, and
/debug/pprof/ where it is asked for (spec/wire-api.md §6, spec/observability.md §3-§5).

None of these asks for a token; all are GET only.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

from kvserver import errors
from kvserver.config.sources import shown_arguments
from kvserver.logs import Logger
from kvserver.metrics.registry import CONTENT_TYPE, Registry
from kvserver.proto import rpc_pb2
from kvserver.runtime.member_loop import MemberLoop
from kvserver.services.pprof import ROOT as PPROF_ROOT
from kvserver.services.pprof import Pprof
from kvserver.transport import HttpRequest, HttpResponse
from kvserver.version import KEYDECK_VERSION, SERVER_VERSION

TEXT = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
JSON = {"Content-Type": "application/json"}
LIVEZ = ("serializable_read",)
READYZ = ("data_corruption", "serializable_read", "linearizable_read", "non_learner")

Check = Callable[[], Awaitable[None]]
Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


class HealthCounters:
    """What the health endpoints have answered, for the metrics."""

    def __init__(self) -> None:
        self.success = 0
        self.failures = 0
        self.last: dict[tuple[str, str], int] = {}
        self.checks: Counter[tuple[str, str, str]] = Counter()


class HttpApp:
    """Routes requests of the client port (and of `--listen-metrics-urls`)."""

    def __init__(
        self,
        member: MemberLoop,
        registry: Registry,
        counters: HealthCounters,
        log: Logger,
        pprof: Pprof | None = None,
    ) -> None:
        self._member = member
        self._registry = registry
        self._counters = counters
        self._log = log
        self._routes = {
            "/version": self._version,
            "/health": self._health,
            "/metrics": self._metrics,
            "/debug/vars": self._debug_vars,
        }
        self._pprof = pprof
        self._checks: dict[str, Check] = {
            "data_corruption": self._check_corruption,
            "serializable_read": self._check_serializable,
            "linearizable_read": self._member.readable,
            "non_learner": self._check_learner,
        }

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        handler = self._handler(request.path)
        if handler is None:
            return HttpResponse(404, TEXT, b"404 page not found\n")
        if request.method != "GET" and (request.method, request.path) != ("HEAD", "/metrics"):
            if request.path == "/health":
                self._log.warn("/health error", status_code=405)
            return HttpResponse(405, {**TEXT, "Allow": "GET"}, b"Method Not Allowed\n")
        return await handler(request)

    def _handler(self, path: str) -> Handler | None:
        for root, names in (("/livez", LIVEZ), ("/readyz", READYZ)):
            if path == root or path.startswith(root + "/"):
                wanted = path[len(root) + 1 :]
                if wanted and wanted not in names:
                    return None
                selected = (wanted,) if wanted else names
                return functools.partial(self._probe, root=root[1:], names=selected)
        if self._pprof is not None and f"{path}/".startswith(f"{PPROF_ROOT}/"):
            return self._pprof.answer
        return self._routes.get(path)

    @property
    def monitoring_paths(self) -> tuple[str, ...]:
        """What `--listen-metrics-urls` serves (spec/observability.md §1)."""
        return ("/metrics", "/health", "/livez", "/readyz")

    async def _version(self, request: HttpRequest) -> HttpResponse:
        fields = {
            "etcdserver": SERVER_VERSION,
            "etcdcluster": self._member.membership.version or "not_decided",
            "storage": self._member.storage_version or "unknown",
            "keydeck": KEYDECK_VERSION,
        }
        return HttpResponse(200, JSON, json.dumps(fields, separators=(",", ":")).encode())

    async def _metrics(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, {"Content-Type": CONTENT_TYPE}, self._registry.render())

    async def _debug_vars(self, request: HttpRequest) -> HttpResponse:
        status = self._member.raft_status()
        usage = resource.getrusage(resource.RUSAGE_SELF)
        fields = {
            "cmdline": shown_arguments(sys.argv),
            "file_descriptor_limit": os.sysconf("SC_OPEN_MAX"),
            # What Python can say of Go's figures: the most that was resident, in bytes.
            "memstats": {"Sys": usage.ru_maxrss * 1024},
            "raft.status": {
                "id": f"{status.id:x}",
                "term": status.term,
                "vote": f"{status.vote:x}",
                "commit": status.committed,
                "lead": f"{status.leader:x}",
                "raftState": f"State{status.role.name.title().replace('_', '')}",
                "applied": status.applied,
                "leadtransferee": f"{status.transferee:x}",
            },
        }
        return HttpResponse(200, JSON, json.dumps(fields).encode())

    # -- /health

    async def _health(self, request: HttpRequest) -> HttpResponse:
        query = parse_qs(request.query)
        reason = await self._unhealthy_reason(
            set(query.get("exclude", ())), query.get("serializable", [""])[0] == "true"
        )
        fields = {"health": "false" if reason else "true", "reason": reason}
        text = json.dumps(fields, separators=(",", ":"))
        if reason:
            self._counters.failures += 1
            self._log.warn("/health error", output=text, status_code=503)
            return HttpResponse(503, TEXT, f"{text}\n".encode())
        self._counters.success += 1
        return HttpResponse(200, TEXT, text.encode())

    async def _unhealthy_reason(self, excluded: set[str], is_serializable: bool) -> str:
        """Each told in the log as well (spec/observability.md §6)."""
        for _, kind in self._member.alarms.pairs():
            name = rpc_pb2.AlarmType.Name(kind)
            if name not in excluded:
                self._log.warn("serving /health false due to an alarm", alarm=name)
                return f"ALARM {name}"
        if not is_serializable and not self._member.has_leader:
            self._log.warn("serving /health false; no leader")
            return "RAFT NO LEADER"
        try:
            if not is_serializable:
                await self._member.readable()
            self._member.store.range_(rpc_pb2.RangeRequest(key=b"\0", limit=1, keys_only=True))
        except errors.RequestError as error:
            self._log.warn("serving /health false; Range fails", error=error.message)
            return f"RANGE ERROR:{error.message}"
        return ""

    # -- /livez and /readyz

    async def _probe(self, request: HttpRequest, root: str, names: tuple[str, ...]) -> HttpResponse:
        query = parse_qs(request.query, keep_blank_values=True)
        excluded = set(query.get("exclude", ()))
        if unknown := excluded.difference(names):
            self._log.warn("some health checks cannot be excluded", missing_checks=unknown)
        lines, failed = [], False
        for name in names:
            if name in excluded:
                continue
            reason = await self._run_check(root, name)
            failed = failed or bool(reason)
            lines.append(f"[-]{name} failed: {reason}\n" if reason else f"[+]{name} ok\n")
        if failed:
            return HttpResponse(503, TEXT, ("".join(lines) + "\n").encode())
        verbose = "".join(lines) if "verbose" in query else ""
        return HttpResponse(200, TEXT, (verbose + "ok\n").encode())

    async def _run_check(self, root: str, name: str) -> str:
        reason = ""
        try:
            await self._checks[name]()
        except errors.RequestError as error:
            reason = error.message
        self._counters.last[root, name] = 0 if reason else 1
        self._counters.checks[root, name, "error" if reason else "success"] += 1
        return reason

    async def _check_corruption(self) -> None:
        if self._member.alarms.has_corrupt:
            raise errors.RequestError("alarm activated: CORRUPT")

    async def _check_serializable(self) -> None:
        self._member.store.range_(rpc_pb2.RangeRequest(key=b"\0", limit=1, keys_only=True))

    async def _check_learner(self) -> None:
        if self._member.is_learner:
            raise errors.RequestError("not supported for learner")


class MonitoringApp:
    """The client app's monitoring paths, and nothing else of it."""

    def __init__(self, app: HttpApp) -> None:
        self._app = app

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        root = "/" + request.path.split("/")[1]
        if root not in self._app.monitoring_paths:
            return HttpResponse(404, TEXT, b"404 page not found\n")
        return await self._app(request)
