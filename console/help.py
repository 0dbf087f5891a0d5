"""What each page is, in a few words for somebody who has read nothing. No Django in here.

A page has a text of its own or the one of its room; a route is a name of console/urls.py, a
room is a package of views. tests/console/test_help.py keeps it complete.
"""

from __future__ import annotations

ROOMS: dict[str, tuple[str, ...]] = {
    "keys": (
        "Keys are byte strings in one flat, ordered space; folders are only a way to look at them.",
        "Every write shows what it changes first, is refused when somebody was quicker, and keeps "
        "the key's lease unless you say otherwise.",
    ),
    "history": (
        "The store numbers every write. What has not been compacted can be looked at, compared "
        "and put back.",
    ),
    "watch": (
        "Changes as they happen, newest first, in the ranges listed at the top. Open one to see "
        "old and new side by side.",
        "The watch survives broken connections without a hole: it goes on where it was. Where it "
        "cannot, because the cluster has compacted in between, a row says so. What comes too fast "
        "to be read is counted, and the export has it.",
    ),
    "leases": (
        "A lease is a countdown that a client keeps renewing. When it runs out, or is revoked, "
        "all keys attached to it are deleted.",
    ),
    "users": (
        "Users of the cluster itself and the roles that say which ranges of keys they may read "
        "and write. They are not the accounts of this console.",
    ),
    "overview": (
        "The state of the cluster in one sentence, then each member with its own figures: they "
        "are asked one by one, so a member that is behind or gone is seen.",
    ),
    "sampling": (
        "How the members fared while nobody was looking: samples that the console itself takes "
        "and keeps, without any other monitoring.",
    ),
    "members": (
        "Who belongs to the cluster and votes in it. Each change says what the quorum is before "
        "and after, and what failure the cluster survives next.",
    ),
    "maintenance": (
        "Work that keeps the store small and sound: old revisions are compacted away, the space "
        "they held is given back by a defragmentation, members are compared with each other.",
        "Everything here shows a plan first and says what cannot be undone.",
    ),
    "snapshots": ("A snapshot is the whole store in one file, to keep or to look into.",),
    "audit": (
        "Every write that went through this console: who, when, on which cluster, the command "
        "that would have done the same, and what came of it.",
    ),
    "clusters": (
        "Connections to clusters. Passwords and keys are encrypted and never shown again. "
        "Read-only is a property of a connection and covers every verb.",
    ),
    "accounts": (
        "Who may sign in to this console, and what they may do on which cluster: a viewer reads "
        "and watches, an editor changes keys and leases, an operator runs the cluster, an admin "
        "also its users.",
    ),
    "palette": (
        "Type a page, a key or the beginning of one, the number of a revision, the id of a lease "
        "or the name of another cluster. On every page Ctrl K opens the same.",
    ),
}

PAGES: dict[str, tuple[str, ...]] = {
    "keys": (
        "Left the keys as folders, right the listing of the prefix chosen. Folders end at a "
        'separator, which "How it is read" changes; none gives a flat list.',
        "There you also choose the revision everything is shown as of, and whether the quorum or "
        "one member alone answers. All of it stands in the address.",
    ),
    "key_search": (
        "A store of keys has no index but their order, so a search reads them in steps at one "
        "revision, and says how far it came.",
    ),
    "delete_range": (
        "Deletes every key of an exact range in one transaction, if none of them was written "
        "since you looked. A rewind brings them back until the revision is compacted.",
    ),
    "rewind": (
        "Puts every key of a range back to what it was at a revision: what changed since is "
        "changed back, what came since goes. The plan shows it before anything is written.",
    ),
    "import_keys": (
        "Reads a file as Export writes it, shows what it would change, and writes it in "
        "transactions of up to 128 keys, each with a result of its own.",
    ),
    "key_job": (
        "An import or a rewind, or the comparison before one. It goes on in the console when this "
        "page is closed, and stops between two batches when it is told to.",
        "Every batch is a transaction of its own: written as a whole, or left out because a key "
        "of it had changed since the plan.",
    ),
    "at_moment": (
        "The store knows no clock, only revisions. The console's samples say which revision it "
        "had reached when, so a time means a revision, or a few of them.",
    ),
    "build_txn": (
        "A transaction compares, then does one of two lists of operations, as one revision: all "
        "of it or nothing.",
    ),
    "key": (
        "One key: what it holds and where that came from. The value is shown by the first decoder "
        "that fits; the others are a click away, and the raw download has every byte.",
        "create is the revision that made the key, mod the one that wrote it last, version counts "
        "the writes in between.",
    ),
    "new_key": (
        "Puts a key that must not exist yet. Bytes that cannot be typed are written \\xNN.",
    ),
    "edit_key": (
        "The difference is shown before anything is written. If somebody changes the key in the "
        "meantime, nothing is written and both versions are shown.",
    ),
    "key_history": (
        "Every version of the key that the store still knows, deletes and earlier lives included. "
        "Pick two to compare; an old one can be put back.",
    ),
    "restore_key": (
        "Writes an old value as a new version. History is never rewritten: the put is a revision "
        "like any other, and can be undone the same way.",
    ),
    "revision": (
        "Everything that one write changed: a transaction is one revision, however many keys it "
        "touches.",
    ),
    "lease": (
        "The keys that end with this lease, and the time they have left unless somebody renews it.",
    ),
    "compact": (
        "Compaction forgets every version before a revision. The newest versions stay; what is "
        "older cannot be read, watched or put back any more.",
    ),
    "defragment": (
        "Gives space that compaction freed back to the file system. On a real etcd the member "
        "answers nothing while it runs; the others go on.",
    ),
    "hashes": (
        "Members that hold the same data at the same revision have the same hash. One that "
        "differs has gone its own way.",
    ),
    "lens": (
        "One key asked of every member, once agreed by the quorum and once from each member's own "
        "state: this shows a member that is behind.",
    ),
    "etcd_user": (
        "What a user may do is the union of its roles. Ranges of different roles that touch each "
        "other count as one; the right to write never includes the right to read.",
    ),
    "etcd_role": (
        "A permission is one range and what may be done in it, read, write or both. The range is "
        "what the server compares: a prefix is only a short way to write one.",
    ),
    "permissions": (
        "Ask before it matters: the answer is what the server would say, with the grant that "
        "decides each part of the range, or the nearest interval that is missing.",
    ),
    "permissions_txn": (
        "A transaction is allowed when every operation of both branches is, and every compare "
        "may be read, whichever branch would run.",
    ),
    "permissions_who": (
        "Everybody who may read or write a range or a part of it, and by which grant.",
    ),
    "findings": (
        "Grants and names that are seldom meant the way the server takes them, each with what to "
        "do about it.",
    ),
    "own_access": (
        "What the etcd user behind this connection may do. Anybody may ask that about oneself; "
        "about others only the role root.",
    ),
    "key_access": ("Who may read and who may change this one key, and by which grant.",),
    "enable_auth": (
        "From then on the cluster asks everybody for a name. The checks keep you from locking "
        "out the console and yourself.",
    ),
    "disable_auth": (
        "From then on whoever reaches an endpoint may do everything. Users, roles and passwords "
        "are kept for the next time.",
    ),
    "etcd_sign_in": (
        "This connection has no user of its own: what you may do on the cluster is what your "
        "etcd user may. Your account of this console stays as it is.",
    ),
    "disarm": (
        "An alarm stops writes until somebody takes it back. The checks say whether its reason is "
        "gone: disarming repairs nothing.",
    ),
    "sizes": (
        "What takes the space: live keys and retained history by prefix, from a scan that reads "
        "everything once. Each finding has the page that does something about it.",
    ),
    "snapshots": (
        "A snapshot is the whole store in one file. Saved ones are read back and checked; the "
        "schedule goes on as long as the console runs, and catches up when it starts again.",
    ),
    "browse_snapshot": (
        "The keys that were live when the snapshot was taken. Nothing here touches the cluster.",
    ),
    "snapshot_key": (
        "One key of the snapshot beside what it is now. Restoring it writes a new version, and "
        "can be undone like any write.",
    ),
    "job": ("The job goes on in the console when this page is closed.",),
    "password": ("Your password for this console. It has nothing to do with users of a cluster.",),
    "login": ("Sign in with your account of this console.",),
}


def help_of(route: str, module: str) -> tuple[str, ...]:
    """The paragraphs for a page, by the name of its route and the module of its view."""
    room = module.removeprefix("console.").split(".")[0]
    return PAGES.get(route) or ROOMS.get(room, ())
