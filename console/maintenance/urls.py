"""The maintenance pages, below a cluster's address."""

from django.urls import path

from console.maintenance import views, views_defrag

pages = [
    path("/maintenance", views.maintenance, name="maintenance"),
    path("/maintenance/live", views.live, name="maintenance_live"),
    path("/maintenance/defragment", views_defrag.defragment, name="defragment"),
    path("/maintenance/defragment-all", views_defrag.rolling, name="defragment_all"),
    path("/maintenance/hashes", views.hashes, name="hashes"),
    path("/maintenance/jobs/<int:job>", views.job, name="job"),
    path("/maintenance/jobs/<int:job>/live", views.job_live, name="job_live"),
    path("/maintenance/jobs/<int:job>/abort", views.abort_job, name="abort_job"),
]
