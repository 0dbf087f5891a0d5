"""Pages of the overview."""

from django.urls import path

from console.overview import views

pages = [
    path("", views.overview, name="overview"),
    path("/overview/live", views.live, name="overview_live"),
]
