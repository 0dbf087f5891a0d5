from console.keys.diff import LINES_MAX, compare


def test_a_changed_line_is_removed_and_added_within_context() -> None:
    before = "".join(f"line {n}\n" for n in range(20))
    diff = compare(before, before.replace("line 10\n", "line ten\n"))
    assert (diff.added, diff.removed) == (1, 1)
    assert [row.kind for row in diff.rows] == [
        "gap",
        *["same"] * 3,
        "del",
        "add",
        *["same"] * 3,
        "gap",
    ]
    assert diff.rows[0].text == "7 unchanged lines"
    assert diff.rows[-1].text == "6 unchanged lines"


def test_equal_texts_have_no_difference() -> None:
    assert compare("a\nb\n", "a\nb\n").is_empty


def test_a_newline_at_the_end_is_a_difference() -> None:
    diff = compare("a\n", "a")
    assert (diff.added, diff.removed) == (1, 1)


def test_from_nothing_everything_is_added() -> None:
    assert [(row.kind, row.text) for row in compare("", "a\n").rows] == [("add", "a")]


def test_very_long_texts_are_not_compared() -> None:
    long = "x\n" * (LINES_MAX + 1)
    assert compare(long, "y\n").is_too_long
    assert not compare(long, long).is_too_long
