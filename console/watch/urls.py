"""Pages of the watch."""

from django.urls import path

from console.watch import views

pages = [
    path("/watch", views.watch, name="watch"),
    path("/watch/export", views.export, name="watch_export"),
]
