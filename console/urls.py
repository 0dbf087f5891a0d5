"""Every page of the console. A URL for everything, no trailing slashes."""

from django.urls import include, path

from console.accounts import views as accounts
from console.accounts import views_admin as accounts_admin
from console.audit import views as audit
from console.clusters import views as clusters
from console.clusters import views_sign_in
from console.history.urls import pages as history_pages
from console.keys.urls import pages as key_pages
from console.leases.urls import pages as lease_pages
from console.maintenance.urls import pages as maintenance_pages
from console.members.urls import pages as member_pages
from console.overview.urls import pages as overview_pages
from console.palette.urls import cluster_pages as palette_pages
from console.palette.urls import pages as palette
from console.sampling.urls import pages as sampling_pages
from console.users.urls import pages as user_pages
from console.watch.urls import pages as watch_pages

cluster_pages = [
    *overview_pages,
    *sampling_pages,
    *key_pages,
    *history_pages,
    *watch_pages,
    *palette_pages,
    *lease_pages,
    *maintenance_pages,
    *member_pages,
    *user_pages,
    path("/sign-in", views_sign_in.etcd_sign_in, name="etcd_sign_in"),
    path("/sign-out", views_sign_in.etcd_sign_out, name="etcd_sign_out"),
]

urlpatterns = [
    path("", clusters.home, name="home"),
    path("login", accounts.sign_in, name="login"),
    path("logout", accounts.sign_out, name="logout"),
    path("password", accounts.password, name="password"),
    path("theme", accounts.theme, name="theme"),
    path("c/<slug:cluster>", include(cluster_pages)),
    *palette,
    path("audit", audit.audit, name="audit"),
    path("audit/export", audit.export, name="audit_export"),
    path("clusters", clusters.clusters, name="clusters"),
    path("clusters/new", clusters.new_cluster, name="new_cluster"),
    path("clusters/<slug:slug>", clusters.edit_cluster, name="edit_cluster"),
    path("clusters/<slug:slug>/remove", clusters.remove_cluster, name="remove_cluster"),
    path("accounts", accounts_admin.accounts, name="accounts"),
    path("accounts/new", accounts_admin.new_account, name="new_account"),
    path("accounts/<int:pk>", accounts_admin.account, name="account"),
    path("accounts/<int:pk>/password", accounts_admin.reset_password, name="reset_password"),
]

handler400 = "console.errors.bad_request"
handler403 = "console.errors.permission_denied"
handler404 = "console.errors.not_found"
handler500 = "console.errors.server_error"
