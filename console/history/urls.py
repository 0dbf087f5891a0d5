"""Pages of the history."""

from django.urls import path

from console.history import views_key, views_moment, views_range, views_restore

pages = [
    path("/key/history", views_key.key_history, name="key_history"),
    path("/key/restore", views_restore.restore_key, name="restore_key"),
    path("/at", views_moment.at_moment, name="at_moment"),
    path("/history", views_range.history, name="history"),
    path("/revision/<int:revision>", views_range.revision, name="revision"),
]
