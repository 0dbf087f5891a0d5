"""Metrics: plain counters on the hot path, the Prometheus text format at scrape time.

Nothing here costs a request more than an addition. `registry` renders families; what they read
is put together in `kvserver.services.metrics`. The library `prometheus_client` is not used to
write them: it forces the suffix `_total` on counters, and several of etcd's have none
(spec/observability.md §2), so dashboards would not find them. Tests parse the page with it.
"""
