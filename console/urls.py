"""Every page of the console. A URL for everything, no trailing slashes."""

from django.urls import include, path

from console.accounts import views as accounts
from console.accounts import views_admin as accounts_admin
from console.audit import views as audit
from console.clusters import views as clusters
from console.history import views_key as history_key
from console.history import views_range as history_range
from console.history import views_restore as history_restore
from console.keys import views_key, views_list, views_write
from console.leases import views as leases
from console.maintenance.urls import pages as maintenance_pages
from console.overview import views as overview

cluster_pages = [
    path("", overview.overview, name="overview"),
    path("/overview/live", overview.live, name="overview_live"),
    path("/keys", views_list.keys, name="keys"),
    path("/keys/new", views_write.new_key, name="new_key"),
    path("/key", views_key.key, name="key"),
    path("/key/raw", views_key.raw, name="key_raw"),
    path("/key/edit", views_write.edit_key, name="edit_key"),
    path("/key/delete", views_write.delete_key, name="delete_key"),
    path("/key/undo", views_write.undo_put, name="undo_put"),
    path("/key/history", history_key.key_history, name="key_history"),
    path("/key/restore", history_restore.restore_key, name="restore_key"),
    path("/history", history_range.history, name="history"),
    path("/revision/<int:revision>", history_range.revision, name="revision"),
    *maintenance_pages,
    path("/leases", leases.leases, name="leases"),
    path("/leases/grant", leases.grant_lease, name="grant_lease"),
    path("/lease/<str:lease>", leases.lease, name="lease"),
    path("/lease/<str:lease>/keep-alive", leases.keep_alive, name="keep_alive"),
    path("/lease/<str:lease>/revoke", leases.revoke_lease, name="revoke_lease"),
]

urlpatterns = [
    path("", clusters.home, name="home"),
    path("login", accounts.sign_in, name="login"),
    path("logout", accounts.sign_out, name="logout"),
    path("password", accounts.password, name="password"),
    path("theme", accounts.theme, name="theme"),
    path("c/<slug:cluster>", include(cluster_pages)),
    path("audit", audit.audit, name="audit"),
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
