"""Pages of the leases."""

from django.urls import path

from console.leases import views

pages = [
    path("/leases", views.leases, name="leases"),
    path("/leases/grant", views.grant_lease, name="grant_lease"),
    path("/lease/<str:lease>", views.lease, name="lease"),
    path("/lease/<str:lease>/keep-alive", views.keep_alive, name="keep_alive"),
    path("/lease/<str:lease>/revoke", views.revoke_lease, name="revoke_lease"),
]
