"""A reader follows the product's main functions from file to file without coming back often."""

from support import decide_walk


def test_decide_is_read_in_ten_files_with_at_most_six_returns() -> None:
    walk = decide_walk.walk()
    assert len(walk.files) <= 10, walk.files
    assert walk.returns <= 6, walk.stays
    # A walk that finds no calls would hold as well.
    assert len(walk.order) >= 80
