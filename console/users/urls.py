"""The access pages, below a cluster's address."""

from django.urls import path

from console.users import views_auth, views_own, views_roles, views_tester, views_users

pages = [
    path("/users", views_users.users, name="users"),
    path("/users/new", views_users.new_user, name="new_user"),
    path("/user", views_users.user, name="etcd_user"),
    path("/user/delete", views_users.delete_user, name="delete_user"),
    path("/user/password", views_users.user_password, name="user_password"),
    path("/user/role", views_users.user_role, name="user_role"),
    path("/roles", views_roles.roles, name="roles"),
    path("/roles/new", views_roles.new_role, name="new_role"),
    path("/role", views_roles.role, name="etcd_role"),
    path("/role/delete", views_roles.delete_role, name="delete_role"),
    path("/role/grant", views_roles.grant_permission, name="grant_permission"),
    path("/role/grant/range", views_roles.permission_range, name="permission_range"),
    path("/role/revoke", views_roles.revoke_permission, name="revoke_permission"),
    path("/permissions", views_tester.tester, name="permissions"),
    path("/permissions/txn", views_tester.txn_tester, name="permissions_txn"),
    path("/permissions/who", views_tester.who_tester, name="permissions_who"),
    path("/permissions/findings", views_tester.findings, name="findings"),
    path("/permissions/passwords", views_tester.try_passwords, name="try_passwords"),
    path("/access", views_own.own_access, name="own_access"),
    path("/key/access", views_own.key_access, name="key_access"),
    path("/auth/enable", views_auth.enable_auth, name="enable_auth"),
    path("/auth/disable", views_auth.disable_auth, name="disable_auth"),
]
