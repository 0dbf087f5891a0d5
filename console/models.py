"""What the console keeps: accounts, cluster connections, roles, audit rows. Never cluster data."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

from console.clusters.own import OwnSignIn
from console.roles import Role


class AccountManager(BaseUserManager["Account"]):
    def create(self, username: str, password: str, *, is_admin: bool = False) -> Account:  # type: ignore[override]
        account = self.model(username=username, is_admin=is_admin)
        account.set_password(password)
        account.save(using=self._db)
        return account


class Account(AbstractBaseUser):
    """Someone who may sign in. `is_admin` is admin on every cluster and of the console itself."""

    username = models.CharField(max_length=150, unique=True)
    is_admin = models.BooleanField(default=False)
    is_active = models.BooleanField(default=True)
    must_change_password = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[AccountManager] = AccountManager()
    USERNAME_FIELD = "username"

    class Meta:
        ordering: ClassVar = ["username"]

    def role_on(self, cluster: Cluster) -> Role | None:
        """The role this account holds on the cluster now, or None for none at all."""
        if not self.is_active:
            return None
        if self.is_admin:
            return Role.ADMIN
        grant = self.grants.filter(cluster=cluster).first()
        return Role(grant.role) if grant else None


class Cluster(models.Model):
    """A connection to a cluster, ours or a real etcd. Secrets are kept encrypted (secrets.py)."""

    class Environment(models.TextChoices):
        DEVELOPMENT = "development", "Development"
        STAGING = "staging", "Staging"
        PRODUCTION = "production", "Production"

    slug = models.SlugField(max_length=50, unique=True)
    name = models.CharField(max_length=80, unique=True)
    environment = models.CharField(
        max_length=16, choices=Environment.choices, default=Environment.DEVELOPMENT
    )
    colour = models.CharField(max_length=16, default="teal")
    endpoints = models.TextField(help_text="One http:// or https:// address a line.")
    is_read_only = models.BooleanField(default=False)
    tls_ca = models.TextField(blank=True, default="")
    tls_certificate = models.TextField(blank=True, default="")
    tls_key_encrypted = models.TextField(blank=True, default="")
    tls_server_name = models.CharField(max_length=253, blank=True, default="")
    etcd_user = models.CharField(max_length=200, blank=True, default="")
    etcd_password_encrypted = models.TextField(blank=True, default="")
    asks_sign_in = models.BooleanField(default=False)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering: ClassVar = ["name"]

    own: OwnSignIn | None = None
    """The credentials of the person a page or socket is for, where the connection asks for them.
    No field: set where somebody is let in (access.py, live.py)."""

    def __str__(self) -> str:
        return self.name

    @property
    def user_name(self) -> str:
        """The etcd user that calls are made as; "" for none."""
        if self.asks_sign_in:
            return self.own.user if self.own else ""
        return self.etcd_user

    @property
    def is_production(self) -> bool:
        return self.environment == self.Environment.PRODUCTION

    @property
    def endpoint_list(self) -> list[str]:
        return self.endpoints.split()


class ClusterGrant(models.Model):
    """One account's role on one cluster. An admin needs none."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="grants")
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="grants")
    role = models.PositiveSmallIntegerField(choices=[(int(role), role.label) for role in Role])

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "cluster"], name="one_role_a_cluster")
        ]


class LoginFailure(models.Model):
    """A refused sign-in: what throttling counts (accounts/throttle.py)."""

    username = models.CharField(max_length=150, db_index=True)
    address = models.CharField(max_length=64, db_index=True)
    at = models.DateTimeField(db_index=True)


class Job(models.Model):
    """Upkeep that outlives the tab it was started in (maintenance/jobs.py). At most one runs in
    a lane of a cluster: what only reads does not wait for what changes members. `steps` is a
    list, one a member or a stage: ids as hexadecimal text, never JSON numbers."""

    class State(models.TextChoices):
        RUNNING = "running", "running"
        DONE = "done", "done"
        STOPPED = "stopped", "stopped"
        ABORTED = "aborted", "aborted"
        INTERRUPTED = "interrupted", "interrupted"

    class Kind(models.TextChoices):
        DEFRAGMENT = "defragment", "Defragmentation of one member"
        ROLLING = "rolling", "Rolling defragmentation"
        SIZES = "sizes", "Size scan"
        SNAPSHOT = "snapshot", "Snapshot"
        OPEN = "open", "Reading of a snapshot"
        COMPARE = "compare", "Comparison"
        IMPORT = "import", "Import"
        REWIND = "rewind", "Rewind"

    class Lane(models.TextChoices):
        MEMBERS = "members", "changes members"
        SCAN = "scan", "reads keys"
        SNAPSHOT = "snapshot", "saves a snapshot"
        OPEN = "open", "reads a snapshot"
        KEYS = "keys", "writes keys"

    lane = models.CharField(max_length=16, choices=Lane.choices, default=Lane.MEMBERS)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="jobs")
    account = models.ForeignKey(Account, null=True, on_delete=models.SET_NULL)
    account_name = models.CharField(max_length=150)
    address = models.CharField(max_length=64, blank=True, default="")
    state = models.CharField(max_length=16, choices=State.choices, default=State.RUNNING)
    steps = models.JSONField(default=list)
    threshold_percent = models.PositiveSmallIntegerField(default=0)
    result = models.JSONField(default=dict)
    """What a kind keeps beside its steps; figures only."""
    abort_asked = models.BooleanField(default=False)
    detail = models.TextField(blank=True, default="")
    started_at = models.DateTimeField(auto_now_add=True)
    heartbeat_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cluster", "lane"],
                condition=models.Q(state="running"),
                name="one_running_job_a_lane",
            )
        ]


class JobBatch(models.Model):
    """What became of one transaction of an import or a rewind (keys/batches.py BatchResult)."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="batches")
    number = models.PositiveIntegerField()
    changes = models.PositiveIntegerField()
    first = models.BinaryField()
    last = models.BinaryField()
    state = models.CharField(max_length=10)
    revision = models.BigIntegerField(default=0)
    conflicts = models.JSONField(default=list)
    """Byte text of the first keys that had changed."""
    conflicts_more = models.PositiveIntegerField(default=0)
    detail = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["number"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["job", "number"], name="one_result_a_batch")
        ]


class PrefixSize(models.Model):
    """What a size scan counted below one prefix (maintenance/sizes.py). Bytes are record bytes."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="sizes")
    prefix = models.BinaryField()
    live_keys = models.BigIntegerField(default=0)
    live_bytes = models.BigIntegerField(default=0)
    leased_keys = models.BigIntegerField(default=0)
    untouched_keys = models.BigIntegerField(default=0)
    old_versions = models.BigIntegerField(default=0)
    tombstones = models.BigIntegerField(default=0)
    old_bytes = models.BigIntegerField(default=0)
    writes = models.BigIntegerField(default=0)


class SnapshotSchedule(models.Model):
    """When snapshots of a cluster are saved by themselves, and which of them are kept."""

    cluster = models.OneToOneField(Cluster, on_delete=models.CASCADE, related_name="schedule")
    is_on = models.BooleanField(default=False)
    every_minutes = models.PositiveIntegerField(default=24 * 60)
    keep_count = models.PositiveIntegerField(default=7)
    keep_days = models.PositiveIntegerField(default=0)
    """0: age alone removes nothing."""
    next_at = models.DateTimeField(null=True, db_index=True)
    account = models.ForeignKey(Account, null=True, on_delete=models.SET_NULL)
    account_name = models.CharField(max_length=150)


class Snapshot(models.Model):
    """A saved snapshot: a file below the snapshot directory. The row outlives its file."""

    class State(models.TextChoices):
        WRITING = "writing", "being written"
        VERIFIED = "verified", "verified"
        FAILED = "failed", "failed"
        REMOVED = "removed", "removed"

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="snapshots")
    file = models.CharField(max_length=200)
    """Relative to the snapshot directory."""
    state = models.CharField(max_length=10, choices=State.choices, default=State.WRITING)
    is_scheduled = models.BooleanField(default=False)
    account_name = models.CharField(max_length=150)
    member = models.CharField(max_length=200, blank=True, default="")
    size_bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, blank=True, default="")
    revision = models.BigIntegerField(null=True)
    total_keys = models.BigIntegerField(null=True)
    detail = models.TextField(blank=True, default="")
    taken_at = models.DateTimeField(auto_now_add=True)
    removed_at = models.DateTimeField(null=True)

    class Meta:
        ordering: ClassVar = ["-id"]


class Sample(models.Model):
    """What one member said at one moment (sampling/recorder.py). `second` is of the epoch, a
    multiple of `grain_seconds`. A member that was silent has a row with `is_up` False."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="samples")
    second = models.BigIntegerField()
    grain_seconds = models.PositiveIntegerField()
    member = models.CharField(max_length=16)
    """Hexadecimal: a 64-bit id is never a number in a database row that JSON may see."""
    name = models.CharField(max_length=200)
    is_up = models.BooleanField()
    is_leader = models.BooleanField(default=False)
    db_size_bytes = models.BigIntegerField(default=0)
    db_in_use_bytes = models.BigIntegerField(default=0)
    db_quota_bytes = models.BigIntegerField(default=0)
    revision = models.BigIntegerField(default=0)
    applied_lag = models.BigIntegerField(default=0)
    round_trip_ms = models.FloatField(default=0)

    class Meta:
        constraints: ClassVar = [
            # Of several consoles on one database one writes the sample.
            models.UniqueConstraint(
                fields=["cluster", "grain_seconds", "second", "member"],
                name="one_sample_a_moment",
            )
        ]


class LeaderChange(models.Model):
    """Seen between two samples. The first leader that was seen has an empty `before`."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="leader_changes")
    second = models.BigIntegerField()
    before = models.CharField(max_length=200, blank=True, default="")
    after = models.CharField(max_length=200, blank=True, default="")
    term = models.BigIntegerField()

    class Meta:
        ordering: ClassVar = ["-second"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["cluster", "term", "after"], name="one_change_a_term")
        ]


class AuditRow(models.Model):
    """One write, from the moment it was sent. Names are copies: rows outlive what they name."""

    class Outcome(models.TextChoices):
        SENT = "sent", "sent, outcome unknown"
        DONE = "done", "done"
        CONFLICT = "conflict", "conflict, nothing written"
        REFUSED = "refused", "refused"
        FAILED = "failed", "failed"

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    account = models.ForeignKey(Account, null=True, on_delete=models.SET_NULL)
    account_name = models.CharField(max_length=150)
    address = models.CharField(max_length=64, blank=True, default="")
    cluster = models.ForeignKey(Cluster, null=True, on_delete=models.SET_NULL)
    cluster_name = models.CharField(max_length=80, blank=True, default="")
    action = models.CharField(max_length=40)
    target = models.TextField(blank=True, default="")
    command = models.TextField(blank=True, default="")
    revision_before = models.BigIntegerField(null=True)
    revision_after = models.BigIntegerField(null=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, default=Outcome.SENT)
    detail = models.TextField(blank=True, default="")

    class Meta:
        ordering: ClassVar = ["-id"]
