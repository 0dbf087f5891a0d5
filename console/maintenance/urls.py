"""The maintenance pages, below a cluster's address."""

from django.urls import path

from console.maintenance import (
    views,
    views_alarms,
    views_backup,
    views_compact,
    views_defrag,
    views_lens,
    views_sizes,
    views_snapshots,
    views_uploads,
)

pages = [
    path("/maintenance", views.maintenance, name="maintenance"),
    path("/maintenance/live", views.live, name="maintenance_live"),
    path("/maintenance/defragment", views_defrag.defragment, name="defragment"),
    path("/maintenance/defragment-all", views_defrag.rolling, name="defragment_all"),
    path("/maintenance/compact", views_compact.compact, name="compact"),
    path("/maintenance/disarm", views_alarms.disarm, name="disarm"),
    path("/maintenance/hashes", views_lens.hashes, name="hashes"),
    path("/maintenance/lens", views_lens.lens, name="lens"),
    path("/maintenance/sizes", views_sizes.sizes, name="sizes"),
    path("/maintenance/snapshots", views_snapshots.snapshots, name="snapshots"),
    path("/maintenance/snapshots/save", views_snapshots.save_snapshot, name="save_snapshot"),
    path(
        "/maintenance/snapshots/schedule",
        views_snapshots.schedule_snapshots,
        name="schedule_snapshots",
    ),
    path(
        "/maintenance/snapshots/download",
        views_snapshots.download_snapshot,
        name="download_snapshot",
    ),
    path(
        "/maintenance/snapshots/<int:snapshot>/download",
        views_snapshots.download_saved,
        name="download_saved",
    ),
    path("/maintenance/snapshots/upload", views_uploads.upload_snapshot, name="upload_snapshot"),
    path("/maintenance/snapshots/remove", views_uploads.remove_upload, name="remove_upload"),
    path("/maintenance/snapshots/browse", views_backup.browse, name="browse_snapshot"),
    path("/maintenance/snapshots/key", views_backup.snapshot_key, name="snapshot_key"),
    path("/maintenance/jobs/<int:job>", views.job, name="job"),
    path("/maintenance/jobs/<int:job>/live", views.job_live, name="job_live"),
    path("/maintenance/jobs/<int:job>/abort", views.abort_job, name="abort_job"),
]
