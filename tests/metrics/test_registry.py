"""Histograms and the text format, read back by Prometheus' own parser."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from kvserver.metrics.histogram import Histogram, exponential
from kvserver.metrics.registry import Family, Registry


def test_an_observation_on_a_bound_counts_in_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.observe(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 4), (float("inf"), 5)]
    assert histogram.sum == 104.0


def test_fsync_bounds_are_etcds() -> None:
    """spec/observability.md test case 12: 0.001, 0.002, ... 8.192, +Inf."""
    registry = Registry()
    histogram = Histogram(exponential(0.001, 2, 14))
    registry.single("h", "histogram", "help", lambda: histogram)
    lines = registry.render().decode().splitlines()
    bounds = [line.split('"')[1] for line in lines if line.startswith("h_bucket")]
    assert bounds[0] == "0.001" and bounds[-2:] == ["8.192", "+Inf"] and len(bounds) == 15


def test_the_page_parses_and_types_stay() -> None:
    registry = Registry()
    registry.single("etcd_server_health_success", "counter", "no suffix", lambda: 3)
    registry.single("etcd_server_proposals_committed_total", "gauge", "a gauge", lambda: 2**40)
    registry.add(
        Family("labelled", "gauge", "quotes", lambda: [({"name": 'a"b\\c\nd'}, 1.5)]),
    )
    page = registry.render().decode()
    families = {f.name: f for f in text_string_to_metric_families(page)}
    assert "# TYPE etcd_server_health_success counter" in page
    assert "# TYPE etcd_server_proposals_committed_total gauge" in page
    sample = families["labelled"].samples[0]
    assert sample.labels == {"name": 'a"b\\c\nd'} and sample.value == 1.5
    assert families["etcd_server_proposals_committed_total"].samples[0].value == 2**40


def test_a_name_is_registered_once() -> None:
    registry = Registry()
    registry.single("x", "gauge", "", lambda: 1)
    with pytest.raises(ValueError, match="exists already"):
        registry.single("x", "gauge", "", lambda: 1)
