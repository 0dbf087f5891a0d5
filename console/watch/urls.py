"""Pages of the watch."""

from django.urls import path

from console.watch import views, views_export

pages = [
    path("/watch", views.watch, name="watch"),
    path("/watch/export", views_export.export, name="watch_export"),
]
