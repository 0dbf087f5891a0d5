"""Pages of the members."""

from django.urls import path

from console.members import views, views_change

pages = [
    path("/members", views.members, name="members"),
    path("/members/live", views.members_live, name="members_live"),
    path("/members/start", views.start_member, name="start_member"),
    path("/members/replace", views.replace_member, name="replace_member"),
    path("/members/replace/live", views.replace_live, name="replace_live"),
    path("/members/add", views_change.add_member, name="add_member"),
    path("/members/promote", views_change.promote_member, name="promote_member"),
    path("/members/update", views_change.update_member, name="update_member"),
    path("/members/remove", views_change.remove_member, name="remove_member"),
    path("/members/move-leader", views_change.move_leader, name="move_leader"),
]
