"""The tree pane: the folders above, one level below, page by page and branch by branch."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse

from console.access import allow
from console.gateway import ClusterError, Denied
from console.keys.addresses import BadAddress, bytes_of, list_url, number_of, query_url
from console.keys.byte_text import show
from console.keys.lens import Lens
from console.keys.paging import prefix_range
from console.keys.tree import DEPTH_MAX, Branch, Node, base_of, folders_of, read_branch
from console.roles import Role
from console.users.roots import Root

LEVEL_SECONDS_MAX = 2.0
"""A level stops growing here: a real etcd walks a range to count it, so that every folder beside a
million keys costs it a third of a second. What is missing is a click away."""


@dataclass(frozen=True, slots=True)
class Ancestor:
    path: bytes
    name: bytes
    count: int | None


@dataclass(frozen=True, slots=True)
class Tree:
    """`above`: the folders around the level, outermost first; those left out beyond a depth are
    counted. `failure`: why there is no level to show."""

    above: tuple[Ancestor, ...]
    left_out: int
    branch: Branch | None
    rest_url: str = ""
    failure: ClusterError | None = None


@allow(Role.VIEWER)
def tree(request: HttpRequest) -> HttpResponse:
    """A fragment: the whole tree around a prefix or key, or with `start` or `level` the rows of
    one branch. Whoever comes here with a browser wants the page."""
    try:
        lens = Lens.from_query(request.GET)
        prefix = bytes_of(request.GET.get("prefix", ""))
        start = bytes_of(request.GET.get("start", "")) or None
        pin, level = (number_of(request.GET.get(name, "")) for name in ("pin", "level"))
        chosen = bytes_of(request.GET.get("key", "")) or None
    except BadAddress as error:
        return HttpResponse(str(error), status=400, content_type="text/plain")
    if not request.headers.get("HX-Request"):
        return redirect(list_url(request.cluster, prefix, lens=lens))
    reader = request.gateway.reading(is_serializable=lens.is_serializable)
    found = read_tree(reader, lens, prefix, request.cluster, start=start, pin=pin)
    context = {"lens": lens, "tree": found, "chosen": chosen, "prefix": prefix}
    if level:
        return render(request, "keys/_branch.html", {**context, "level": level})
    return render(request, "keys/_tree.html", context)


def tree_url(cluster: Any, lens: Lens, folder: bytes, key: bytes = b"") -> str:
    """For pages whose tree comes after what somebody waits for."""
    path = reverse("key_tree", args=[cluster.slug])
    chosen = {"key": show(key)} if key else {}
    return query_url(path, prefix=show(folder), **chosen, **lens.params())


def read_tree(
    reader: Any,
    lens: Lens,
    prefix: bytes,
    cluster: Any,
    *,
    start: bytes | None = None,
    pin: int = 0,
) -> Tree:
    """The level below `prefix` and the folders around it: at most tree.CALLS_MAX + DEPTH_MAX
    ranges, whatever the number of keys."""
    deadline = time.monotonic() + LEVEL_SECONDS_MAX
    around = folders_of(prefix, lens.separator)
    shown = around[-DEPTH_MAX:]
    try:
        branch = read_branch(
            reader.part,
            prefix,
            lens.separator,
            start=start,
            revision=lens.revision or pin,
            is_spent=lambda: time.monotonic() > deadline,
        )
        above = tuple(
            Ancestor(
                path,
                path[len(base_of(path[:-1], lens.separator)) :],
                _count(reader, path, branch, deadline, is_level=path == prefix and not start),
            )
            for path in shown
        )
    except ClusterError as error:
        return Tree((), 0, None, failure=error)
    rest_url = ""
    if branch.rest is not None:
        rest_url = list_url(
            cluster, prefix, pin=branch.revision, lens=lens, start=show(branch.rest)
        )
    return Tree(above, len(around) - len(shown), branch, rest_url)


def tree_of_roots(roots: list[tuple[Root, int | None]]) -> Tree:
    """For somebody who may not read the whole: the own ranges stand where the first level would."""
    nodes = []
    for root, count in roots:
        path = root.key if root.prefix is None else root.prefix
        if path:
            nodes.append(Node(path, path, root.prefix is not None, count=count))
    total = sum(count or 0 for _, count in roots)
    return Tree((), 0, Branch(b"", tuple(nodes), total, 0, None, 0))


def _count(
    reader: Any, path: bytes, branch: Branch, deadline: float, *, is_level: bool
) -> int | None:
    if is_level:
        return branch.total
    if time.monotonic() > deadline:
        return None
    try:
        return int(reader.count(prefix_range(path), branch.revision))
    except Denied:  # somebody may read this level and not all of the folder around it
        return None
