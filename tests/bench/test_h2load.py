"""Reading h2load's report."""

import pytest

from bench.h2load import H2loadFailed, read_report

REPORT = """
finished in 1.34s, 148962.81 req/s, 15.35MB/s
requests: 200000 total, 200000 started, 200000 done, {} succeeded, {} failed, {} errored, 0 timeout
status codes: 200000 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 20.60MB (21600000) total, 3.00MB (3145728) headers (space savings 0.00%), 9.5MB (10000000) data
"""  # noqa: E501


def test_a_report_becomes_a_result() -> None:
    result = read_report(REPORT.format(200000, 0, 0), 200_000, 0.67)
    assert result.calls == 200_000 and result.data_bytes == 10_000_000
    assert result.seconds == pytest.approx(1.34)
    assert result.generator_share == pytest.approx(0.5)


def test_failed_calls_are_no_figure() -> None:
    with pytest.raises(H2loadFailed, match="should have succeeded"):
        read_report(REPORT.format(199999, 1, 1), 200_000, 0.5)


def test_silence_is_no_figure() -> None:
    with pytest.raises(H2loadFailed, match="no report"):
        read_report("", 1, 0.0)
