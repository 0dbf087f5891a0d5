"""h2load (Debian's `nghttp2-client`) as the generator of fixed requests, where it is there.

It costs a third of what the Python generator costs a call, and on two cores what the generator
takes is what a server with threads would have had. It judges no gRPC status, so the bytes of the
replies are counted: every one must be as long as the reply that was looked at.
"""

from __future__ import annotations

import re
import resource
import shutil
import struct
import subprocess
import tempfile

from bench.connection import Address
from bench.load import Result

RUN_SECONDS_MAX = 300

_FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s),")
_REQUESTS = re.compile(r"requests: (\d+) total, .* (\d+) succeeded, (\d+) failed")
_DATA = re.compile(r"\((\d+)\) data")
_UNIT_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


class H2loadFailed(AssertionError):
    """Calls failed, or its report cannot be read."""


def is_there() -> bool:
    return shutil.which("h2load") is not None


def run_fixed(
    address: Address, path: str, body: bytes, calls: int, *, connections: int, streams: int
) -> Result:
    """`calls` times one unary request, `streams` outstanding on each connection."""
    with tempfile.NamedTemporaryFile(suffix=".grpc") as file:
        file.write(b"\0" + struct.pack(">I", len(body)) + body)
        file.flush()
        command = ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-n{calls}"]
        command += ["-d", file.name, "-H", "content-type: application/grpc", "-H", "te: trailers"]
        if address.token:
            command += ["-H", f"token: {address.token}"]
        scheme = "https" if address.tls else "http"
        command.append(f"{scheme}://{address.host}:{address.port}{path}")
        before = _children_seconds()
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX, check=True
        )
        cpu_seconds = _children_seconds() - before
    return read_report(done.stdout, calls, cpu_seconds)


def read_report(report: str, calls: int, cpu_seconds: float) -> Result:
    finished, requests, data = (pattern.search(report) for pattern in (_FINISHED, _REQUESTS, _DATA))
    if finished is None or requests is None or data is None:
        raise H2loadFailed(f"no report of h2load's: {report[-500:]!r}")
    if int(requests[2]) != calls:
        raise H2loadFailed(f"{requests[0]}, where {calls} should have succeeded")
    seconds = float(finished[1]) * _UNIT_SECONDS[finished[2]]
    return Result(calls, seconds, cpu_seconds / seconds, int(data[1]))


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
