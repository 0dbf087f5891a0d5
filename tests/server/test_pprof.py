"""/debug/pprof/: what a profile of this process tells, and to whom (spec/wire-api.md §6.1)."""

from __future__ import annotations

import asyncio
import gzip
import signal
import sys
import threading
from pathlib import Path

import pytest

from kvserver import limits
from kvserver.clock import thread_cpu_seconds
from kvserver.config.sources import shown_arguments
from kvserver.profiling import CPU_UNITS, Sampler, packed_profile, stack_of
from kvserver.proto import profile_pb2, rpc_pb2
from tests.support.in_process import Member, running

PROFILE = "/debug/pprof/profile?seconds=1"


def unpacked(body: bytes) -> profile_pb2.Profile:
    return profile_pb2.Profile.FromString(gzip.decompress(body))


def functions(profile: profile_pb2.Profile) -> set[str]:
    return {profile.string_table[function.name] for function in profile.function}


async def fetch(member: Member, path: str) -> tuple[int, bytes]:
    host, _, port = member.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def test_nobody_is_profiled_who_did_not_ask_for_it(tmp_path: Path) -> None:
    async with running(tmp_path) as member:
        for path in ("/debug/pprof/", PROFILE, "/debug/pprof/goroutine"):
            assert await member.get(path) == (404, "404 page not found\n")


def burn() -> None:
    """Most of the processor time of this process, as long as it is called."""
    sum(range(300_000))


async def profile_of(member: Member) -> bytes:
    asked = asyncio.ensure_future(fetch(member, PROFILE))
    while not asked.done():
        burn()
        await member.kv.Put(rpc_pb2.PutRequest(key=b"sesame", value=b"seed" * 99))
    status, body = await asked
    assert status == 200
    return body


async def test_a_profile_names_what_the_member_does(tmp_path: Path) -> None:
    metrics = ("http://127.0.0.1:0",)
    async with running(tmp_path, enable_pprof=True, listen_metrics_urls=metrics) as member:
        async with asyncio.timeout(120):  # on a busy machine a second is not much
            body = await profile_of(member)
            while "test_pprof.burn" not in functions(unpacked(body)):  # runs in the same loop
                body = await profile_of(member)
        profile = unpacked(body)
        types = [profile.string_table[kind.type] for kind in profile.sample_type]
        assert types == ["samples", "cpu"]
        assert sum(sample.value[1] for sample in profile.sample) > 0
        threads = {
            profile.string_table[label.str] for sample in profile.sample for label in sample.label
        }
        assert "MainThread" in threads
        assert b"sesame" not in gzip.decompress(body)
        # The same member, one look at a time.
        status, body = await fetch(member, "/debug/pprof/goroutine")
        assert status == 200 and "pprof.Pprof._threads" in functions(unpacked(body))
        _, text = await member.get("/debug/pprof/goroutine?debug=2")
        assert "thread MainThread\n\t" in text and "\ntask Task-" in text
        assert "profile " in (await member.get("/debug/pprof/"))[1]
        assert await member.get("/debug/pprof/symbol") == (200, "num_symbols: 0\n")
        status, text = await member.get("/debug/pprof/heap")
        assert (status, text) == (404, "Unknown profile in a Python process: heap\n")
        assert (await member.get("/debug/pprof/nope"))[0] == 404
        assert (await member.get("/debug/pprof/", "POST"))[0] == 405
        for query in ("seconds=0", "seconds=61", "seconds=x"):
            assert (await member.get(f"/debug/pprof/profile?{query}"))[0] == 400
        # Not where only the metrics are.
        assert (await member.get("/debug/pprof/", address=member.addresses[1]))[0] == 404


async def test_one_profile_at_a_time_and_none_for_who_has_gone(tmp_path: Path) -> None:
    """Also the log level debug asks for it, as with etcd."""
    async with running(tmp_path, log_level="debug") as member:
        long = "GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: x\r\n\r\n"
        host, _, port = member.address.rpartition(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(long.encode())
        async with asyncio.timeout(60):
            while not profiling():
                await member.get("/version")
        status, text = await member.get(PROFILE)
        assert (status, "cpu profiling already in use" in text) == (500, True)
        writer.close()
        async with asyncio.timeout(60):
            while profiling():
                await member.get("/version")
        assert (await fetch(member, PROFILE))[0] == 200


def profiling() -> bool:
    return signal.getitimer(signal.ITIMER_PROF) != (0.0, 0.0)


def test_a_thread_pays_for_what_it_uses() -> None:
    main, other = threading.main_thread(), threading.Event()
    waiting = threading.Thread(target=other.wait, name="waits", daemon=True)
    waiting.start()
    used = {main.native_id: 3.0, waiting.native_id: 1.0}
    sampler = Sampler(lambda thread: used.get(thread, 0.0))
    sampler.look(sys._getframe())
    assert not sampler.costs  # that was used before
    used[main.native_id] = 3.25
    sampler.look(sys._getframe())
    (((thread, stack), cost),) = sampler.costs.items()
    assert (thread, cost) == ("MainThread", [1, 250_000_000])
    assert stack[0][0].co_name == "test_a_thread_pays_for_what_it_uses"
    used[waiting.native_id] = 1.5
    sampler.look(sys._getframe())
    stacks = dict(sampler.costs.keys())
    assert any(code.co_name == "wait" for code, _ in stacks["waits"])
    other.set()
    packed = unpacked(packed_profile(CPU_UNITS, [(thread, stack, (1, 250_000_000))], 5.0, 1.0))
    assert list(packed.sample[0].value) == [1, 250_000_000]
    assert packed.string_table[0] == "" and packed.time_nanos == 5 * 10**9
    innermost = packed.location[0].line[0]
    assert packed.string_table[packed.function[innermost.function_id - 1].name] == (
        "test_pprof.test_a_thread_pays_for_what_it_uses"
    )


def test_profiles_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvserver.profiling.PROFILE_STACKS_MAX", 1)
    monkeypatch.setattr("kvserver.profiling.PROFILE_DEPTH_MAX", 3)
    sampler = Sampler(lambda thread: 0.0)
    frame = sys._getframe()
    deep = stack_of(frame)
    assert len(deep) == 3
    for stack in (deep, deep[1:], deep):
        sampler._charge("t", stack, 1.0)
    assert {stack for _, stack in sampler.costs} == {deep, deep[-1:]}
    assert limits.PROFILE_SECONDS_DEFAULT <= limits.PROFILE_SECONDS_MAX


def test_the_clock_of_a_thread() -> None:
    own = threading.get_native_id()
    before = thread_cpu_seconds(own)
    sum(range(200_000))
    assert thread_cpu_seconds(own) > before > 0
    assert thread_cpu_seconds(1) == 0.0  # no thread of this process


@pytest.mark.parametrize(
    "arguments",
    [
        ["--discovery-password=canary"],
        ["-discovery-password", "canary"],
        ["--discovery-password", "canary"],
    ],
)
def test_passwords_of_the_command_line_are_not_shown(arguments: list[str]) -> None:
    shown = shown_arguments(["kvserver", *arguments, "--name=x"])
    assert "canary" not in " ".join(shown)
    assert (shown[0], shown[-1]) == ("kvserver", "--name=x")
