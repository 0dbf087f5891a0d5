"""The maintenance pages, below a cluster's address."""

from django.urls import path

from console.maintenance import views, views_alarms, views_compact, views_defrag, views_lens

pages = [
    path("/maintenance", views.maintenance, name="maintenance"),
    path("/maintenance/live", views.live, name="maintenance_live"),
    path("/maintenance/defragment", views_defrag.defragment, name="defragment"),
    path("/maintenance/defragment-all", views_defrag.rolling, name="defragment_all"),
    path("/maintenance/compact", views_compact.compact, name="compact"),
    path("/maintenance/disarm", views_alarms.disarm, name="disarm"),
    path("/maintenance/hashes", views_lens.hashes, name="hashes"),
    path("/maintenance/lens", views_lens.lens, name="lens"),
    path("/maintenance/jobs/<int:job>", views.job, name="job"),
    path("/maintenance/jobs/<int:job>/live", views.job_live, name="job_live"),
    path("/maintenance/jobs/<int:job>/abort", views.abort_job, name="abort_job"),
]
