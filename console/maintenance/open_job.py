"""Opening a snapshot as a job: it is read once and indexed by key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from console.gateway import backups
from console.gateway.backups import BackupError, Kept
from console.maintenance import uploads
from console.maintenance.archive import Archive, ArchiveError
from console.maintenance.backup_index import Entry, build, index_path
from console.maintenance.jobs import Step, Worker, stage
from console.maintenance.snapshot_job import Stopped, archive
from console.models import Cluster, Job


@dataclass(frozen=True, slots=True)
class Hands:
    read: Callable[[str], Iterator[list[Kept]]] = backups.read


def stages(file: str) -> list[Step]:
    return [stage(file, "open")]


def file_of(cluster: Cluster, name: str) -> Path:
    """A snapshot in the cluster's own directory, by its bare name. ArchiveError when there is
    none: a name is never a way to another place."""
    there: Archive = archive()
    if not name or "/" in name or name.startswith("."):
        raise ArchiveError(f"{name[:80]!r} names no snapshot of this cluster")
    path = there.path(f"{cluster.slug}/{name}")
    if not path.is_file():
        raise ArchiveError(f"{name[:80]!r} is not there, or not any more")
    return path


class OpenJob(Worker):
    def __init__(self, job: Job, hands: Hands | None = None) -> None:
        super().__init__(job)
        self.hands = hands or Hands()

    def work(self) -> tuple[str, str]:
        [step] = self.job.steps
        refusal = self.may_not_go_on()
        if refusal:
            return refusal
        self.begin(step)

        def tell(records: int) -> None:
            refusal = self.count(step, records)
            if refusal:
                raise Stopped(*refusal)

        try:
            path = file_of(self.job.cluster, step["member"])
            build(index_path(path), _entries(self.hands.read(str(path))), tell)
        except Stopped as stopped:
            return stopped.state, stopped.words
        except (ArchiveError, BackupError, OSError) as error:
            words = f"It cannot be opened: {error}."
            if isinstance(error, BackupError) and uploads.is_upload(step["member"]):
                archive().remove(f"{self.job.cluster.slug}/{step['member']}")
                words += " What was sent is removed again."
            return Job.State.STOPPED, words
        self.finish(step, f"{step['done']} records read")
        return Job.State.DONE, ""


def _entries(
    pages: Iterator[list[Kept]],
) -> Iterator[Iterable[tuple[int, Entry | None, bytes]]]:
    for page in pages:
        yield [(kept.revision, _entry(kept), kept.key) for kept in page]


def _entry(kept: Kept) -> Entry | None:
    key = kept.held
    if key is None:
        return None
    return Entry(
        key.key,
        kept.place,
        key.create_revision,
        key.mod_revision,
        key.version,
        key.lease,
        key.size_bytes or 0,
    )
