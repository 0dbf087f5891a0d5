"""Pages of the health over time."""

from django.urls import path

from console.sampling import views

pages = [
    path("/overview/over-time", views.over_time, name="over_time"),
    path("/overview/over-time/live", views.over_time_live, name="over_time_live"),
]
