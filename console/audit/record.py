"""Audit rows: no write without one, and none that claims more than is known.

The row is stored before the write is sent, with the outcome `sent`. What comes back replaces it;
a console that dies in between leaves a row that says, truthfully, that nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from console.etcdctl import Etcdctl
from console.gateway import ClusterError, Denied, FateUnknown
from console.models import Account, AuditRow, Cluster

Outcome = AuditRow.Outcome

REFUSALS = {
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "OUT_OF_RANGE",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "RESOURCE_EXHAUSTED",
}
"""Codes by which the cluster says no to what it was asked; it did not fail at it."""


@contextmanager
def recorded(
    request: HttpRequest,
    action: str,
    target: str,
    *,
    command: str = "",
    revision_before: int | None = None,
) -> Iterator[AuditRow]:
    """A write to `request.cluster`. The body sets outcome and revision_after on the row."""
    row = begun(request, action, target, command=command, revision_before=revision_before)
    try:
        yield row
    except ClusterError as error:
        row.outcome = _outcome(error)
        row.detail = " · ".join(filter(None, [row.detail, f"{error.code}: {error.message}"]))
        raise
    except Exception as error:
        row.outcome, row.detail = Outcome.FAILED, type(error).__name__
        raise
    finally:
        row.save()


def begun(
    request: HttpRequest,
    action: str,
    target: str,
    *,
    command: str = "",
    revision_before: int | None = None,
) -> AuditRow:
    """The row of something that ends later than this function: the caller says how, and saves."""
    row = _row(request, action, target, getattr(request, "cluster", None))
    row.command = command
    row.revision_before = revision_before
    row.save()
    return row


def note(
    request: HttpRequest,
    action: str,
    target: str,
    *,
    outcome: AuditRow.Outcome = Outcome.DONE,
    detail: str = "",
    cluster: Cluster | None = None,
    account_name: str | None = None,
) -> None:
    """Something that happened in the console itself: a sign-in, a changed connection."""
    row = _row(request, action, target, cluster)
    row.outcome, row.detail = outcome, detail
    if account_name is not None:
        row.account_name = account_name
    row.save()


def etcdctl_for(cluster: Cluster) -> Etcdctl:
    """Writes the equivalent commands for this connection."""
    return Etcdctl(tuple(cluster.endpoint_list), cluster.user_name)


def client_address(request: HttpRequest) -> str:
    return str(request.META.get("REMOTE_ADDR", ""))


def _row(request: HttpRequest, action: str, target: str, cluster: Cluster | None) -> AuditRow:
    account = request.user if isinstance(request.user, Account) else None
    return AuditRow(
        account=account,
        account_name=account.username if account else "",
        address=client_address(request),
        cluster=cluster,
        cluster_name=cluster.name if cluster else "",
        action=action,
        target=target,
    )


def _outcome(error: ClusterError) -> AuditRow.Outcome:
    if isinstance(error, FateUnknown):
        return Outcome.SENT
    if isinstance(error, Denied) or error.code in REFUSALS:
        return Outcome.REFUSED
    return Outcome.FAILED
