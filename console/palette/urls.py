"""The palette, and the part of it that asks a cluster."""

from django.urls import path

from console.palette import views

pages = [path("go", views.palette, name="palette")]
cluster_pages = [path("/go", views.keys, name="palette_keys")]
