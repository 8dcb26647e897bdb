"""Huge pages for the stages that run TensorFlow, where the C library has them."""

import pytest

from atoll_contract.stage import Stage
from atoll_stages.runtime.allocator import ENV_TUNABLES, with_allocator

SETTING = "glibc.malloc.hugetlb=1"


@pytest.mark.parametrize("stage", [Stage.TRAIN, Stage.EXPORT])
@pytest.mark.parametrize("libc", ["glibc 2.35", "glibc 2.41", "glibc 3.0"])
def test_a_stage_with_tensorflow_gets_huge_pages(stage: Stage, libc: str) -> None:
    assert with_allocator(stage, {"A": "b"}, libc=libc) == {"A": "b", ENV_TUNABLES: SETTING}


@pytest.mark.parametrize(
    ("stage", "libc"),
    [
        (Stage.CONVERT, "glibc 2.41"),
        (Stage.TRAIN, "glibc 2.34"),
        (Stage.TRAIN, "glibc"),
        (Stage.TRAIN, "musl 2.41"),
        (Stage.TRAIN, ""),
    ],
)
def test_elsewhere_nothing_changes(stage: Stage, libc: str) -> None:
    assert with_allocator(stage, {"A": "b"}, libc=libc) == {"A": "b"}


def test_what_the_user_has_set_stays() -> None:
    other, own = "glibc.malloc.arena_max=2", "glibc.malloc.hugetlb=0"
    assert with_allocator(Stage.TRAIN, {ENV_TUNABLES: other}, libc="glibc 2.36")[ENV_TUNABLES] == f"{other}:{SETTING}"
    assert with_allocator(Stage.TRAIN, {ENV_TUNABLES: own}, libc="glibc 2.36") == {ENV_TUNABLES: own}
