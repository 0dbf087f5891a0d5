"""Pages of the key browser."""

from django.urls import path

from console.keys import (
    views_copy,
    views_export,
    views_import,
    views_job,
    views_key,
    views_list,
    views_range,
    views_rewind,
    views_search,
    views_tree,
    views_txn,
    views_write,
)

pages = [
    path("/keys", views_list.keys, name="keys"),
    path("/keys/tree", views_tree.tree, name="key_tree"),
    path("/keys/search", views_search.search, name="key_search"),
    path("/keys/new", views_write.new_key, name="new_key"),
    path("/key", views_key.key, name="key"),
    path("/key/raw", views_key.raw, name="key_raw"),
    path("/key/edit", views_write.edit_key, name="edit_key"),
    path("/key/delete", views_write.delete_key, name="delete_key"),
    path("/key/rename", views_copy.rename_key, name="rename_key"),
    path("/key/duplicate", views_copy.duplicate_key, name="duplicate_key"),
    path("/keys/export", views_export.export, name="export_keys"),
    path("/keys/import", views_import.import_keys, name="import_keys"),
    path("/keys/txn", views_txn.build_txn, name="build_txn"),
    path("/keys/delete", views_range.delete_range, name="delete_range"),
    path("/keys/rewind", views_rewind.rewind, name="rewind"),
    path("/keys/jobs/<int:job>", views_job.key_job, name="key_job"),
    path("/keys/jobs/<int:job>/live", views_job.key_job_live, name="key_job_live"),
    path("/keys/jobs/<int:job>/stop", views_job.stop_key_job, name="stop_key_job"),
    path("/key/undo", views_write.undo_put, name="undo_put"),
]
