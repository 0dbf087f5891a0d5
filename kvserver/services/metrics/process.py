"""process_*, os_fd_*: this process (spec/observability.md §2.7)."""

from __future__ import annotations

import os
import resource

from kvserver.metrics.registry import Registry

PAGE_BYTES = resource.getpagesize()


def register_process(registry: Registry) -> None:
    def statm(field: int) -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[field]) * PAGE_BYTES

    def cpu() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    def files_max() -> int:
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def memory_max() -> float:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        return float(2**64 - 1 if limit == resource.RLIM_INFINITY else limit)

    single = registry.single
    single("process_resident_memory_bytes", "gauge", "Resident memory size.", lambda: statm(1))
    single("process_virtual_memory_bytes", "gauge", "Virtual memory size.", lambda: statm(0))
    single(
        "process_virtual_memory_max_bytes",
        "gauge",
        "Maximum amount of virtual memory available in bytes.",
        memory_max,
    )
    single("process_cpu_seconds_total", "counter", "User and system CPU time.", cpu)
    single("process_open_fds", "gauge", "Number of open file descriptors.", open_files)
    single("process_max_fds", "gauge", "Maximum number of open file descriptors.", files_max)
    single("process_start_time_seconds", "gauge", "Start time since the epoch.", _start_time)
    single("os_fd_used", "gauge", "The number of used file descriptors.", open_files)
    single("os_fd_limit", "gauge", "The file descriptor limit.", files_max)


def _start_time() -> float:
    with open("/proc/self/stat") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as file:
        boot = next(int(line.split()[1]) for line in file if line.startswith("btime"))
    return boot + ticks / os.sysconf("SC_CLK_TCK")
