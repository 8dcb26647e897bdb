"""The split: tags, dataset names or hash; seeded, grouped, near the wanted shares, and no part empty."""

import hashlib
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atoll_contract.archive.extract import Member
from atoll_contract.convert_spec import Split, SplitBy
from atoll_contract.errors import DatasetError
from atoll_stages.convert.example_store import ExampleStore
from atoll_stages.convert.frames import frame_group
from atoll_stages.convert.prepared import ImageFacts, PreparedFile, RecordImage
from atoll_stages.convert.readers.base import AnnotatedImage
from atoll_stages.convert.split import SplitOutcome, assign_splits
from support.archives import annotation, jpeg, packed, rectangle, supervisely
from support.convert_stage import ConvertStage

NOTHING = "nothing"


def split_of(
    tmp_path: Path,
    names: list[str],
    split: Split,
    *,
    tags: dict[str, str] | None = None,
    dataset: str = "ds0",
    archives: dict[str, int] | None = None,
) -> tuple[dict[str, str], SplitOutcome]:
    """Returns the split of each image by name; `archives` gives the number of its archive, by default the first."""
    folder = tmp_path / hashlib.sha256(repr((names, split, tags)).encode()).hexdigest()
    with closing(ExampleStore(folder)) as store:
        for number, name in enumerate(names, start=1):
            member = Member(number, name, 1, NOTHING)
            tag = (tags or {}).get(name)
            store.add(
                (archives or {}).get(name, 0), AnnotatedImage(member, name, dataset, (), tags=(tag,) if tag else ())
            )
            digest = hashlib.sha256(name.encode()).hexdigest()
            image = RecordImage(8, 8, digest, digest, number, bytes(256), "none", 0, 1)
            store.add_prepared([PreparedFile(number, ImageFacts(8, 8), image)])
            store.complete(number, ())
        outcome = assign_splits(store, split)
        return {example.name: str(example.split) for example in store.examples()}, outcome


def frames(count: int, video: str = "video") -> list[str]:
    return [f"ds0/img/{video}_{number:05d}.jpg" for number in range(count)]


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("a/frame_00000.png", "b/frame_00049.jpg", True),
        ("frame_00049.png", "frame_00050.png", False),
        ("one_7.png", "two_7.png", False),
        ("note_12_jpg.rf.0123456789abcdef.jpg", "note_12_jpg.rf.fedcba9876543210.jpg", True),
        ("0a1b2c3d-match_000001.jpg", "d4c3b2a1-match_000002.jpg", True),
        ("IMG_20270109_1.jpg", "IMG_20270110_1.jpg", False),
        ("plain.jpg", "plain.png", True),
        ("x" + "9" * 300 + ".jpg", "x1.jpg", False),
    ],
)
def test_what_belongs_together(one: str, other: str, together: bool) -> None:
    assert (frame_group(one) == frame_group(other)) is together


def test_splits_are_near_their_shares(tmp_path: Path) -> None:
    names = [name for video in range(20) for name in frames(100, f"v{video}x")]
    parts, outcome = split_of(tmp_path, names, Split(train=70, validation=20, test=10))
    counts = Counter(parts.values())
    assert outcome.by is SplitBy.HASH
    assert abs(counts["validation"] / len(names) - 0.2) <= 0.03
    assert abs(counts["test"] / len(names) - 0.1) <= 0.03


def test_groups_are_never_torn_while_there_are_enough(tmp_path: Path) -> None:
    names = [name for video in range(7) for name in frames(130, f"v{video}x")]
    parts, _ = split_of(tmp_path, names, Split())
    by_group: dict[str, set[str]] = {}
    for name, part in parts.items():
        by_group.setdefault(frame_group(name), set()).add(part)
    assert all(len(found) == 1 for found in by_group.values())


def test_same_seed_same_split_and_another_seed_another(tmp_path: Path) -> None:
    names = frames(2000)
    first, _ = split_of(tmp_path / "a", names, Split(seed=1))
    again, _ = split_of(tmp_path / "b", list(reversed(names)), Split(seed=1))
    other, _ = split_of(tmp_path / "c", names, Split(seed=2))
    assert first == again
    assert first != other


def test_growing_the_dataset_moves_few_pictures(tmp_path: Path) -> None:
    names = [name for video in range(60) for name in frames(60, f"v{video}x")]
    before, _ = split_of(tmp_path / "a", names[: len(names) * 9 // 10], Split())
    after, _ = split_of(tmp_path / "b", names, Split())
    moved = sum(after[name] != part for name, part in before.items())
    assert moved <= 0.1 * len(before)


@pytest.mark.parametrize("seed", range(8))
def test_an_archive_that_is_added_leaves_the_others_in_their_parts(tmp_path: Path, seed: int) -> None:
    old, new = frames(500), [name for video in range(3) for name in frames(60, f"later{video}x")]
    before, _ = split_of(tmp_path / "a", old, Split(seed=seed))
    after, _ = split_of(tmp_path / "b", old + new, Split(seed=seed), archives=dict.fromkeys(new, 1))
    assert {name: after[name] for name in old} == before


def test_archives_of_one_group_each_give_a_share_together(tmp_path: Path) -> None:
    names = [name for video in range(20) for name in frames(40, f"v{video}x")]
    archives = {name: number // 40 for number, name in enumerate(names)}
    parts, _ = split_of(tmp_path, names, Split(train=80, validation=20), archives=archives)
    assert Counter(parts.values()) == {"train": 640, "validation": 160}


@settings(max_examples=40)
@given(st.integers(2, 400), st.integers(1, 99), st.integers(0, 5))
def test_train_and_validation_are_never_empty(count: int, share: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        parts, _ = split_of(Path(name), frames(count), Split(train=100 - share, validation=share, seed=seed))
    assert set(parts.values()) == {"train", "validation"}


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=3, max_size=40), st.integers(0, 3))
def test_three_parts_are_never_empty(videos: list[str], seed: int) -> None:
    names = [f"{video}_{number:04d}.jpg" for number, video in enumerate(videos)]
    with tempfile.TemporaryDirectory() as name:
        parts, _ = split_of(Path(name), names, Split(train=60, validation=20, test=20, seed=seed))
    assert set(parts.values()) == {"train", "validation", "test"}


def test_one_giant_group_stays_in_train(tmp_path: Path) -> None:
    names = ["plain.jpg"] * 1 + [f"same{letter}.jpg" for letter in "abcd"] + [f"x_{n}.jpg" for n in range(40)]
    parts, _ = split_of(tmp_path, names, Split())
    assert {parts[f"x_{number}.jpg"] for number in range(40)} == {"train"}


def test_tags_decide_before_dataset_names(tmp_path: Path) -> None:
    names = frames(6)
    tags = {name: ("Train", "val", "TEST")[number % 3] for number, name in enumerate(names)}
    parts, outcome = split_of(tmp_path, names, Split(), tags=tags, dataset="train")
    assert outcome.by is SplitBy.TAGS
    assert Counter(parts.values()) == {"train": 2, "validation": 2, "test": 2}


def test_one_tag_is_no_split(tmp_path: Path) -> None:
    _, outcome = split_of(tmp_path, frames(6), Split(), tags={frames(6)[0]: "train"})
    assert outcome.by is SplitBy.HASH


def test_untagged_pictures_go_to_train_and_are_counted(tmp_path: Path) -> None:
    names = frames(6)
    parts, outcome = split_of(tmp_path, names, Split(), tags={names[0]: "train", names[1]: "val"})
    assert Counter(parts.values()) == {"train": 5, "validation": 1}
    assert outcome.warnings == ("4 pictures without a part went to train",)


@pytest.mark.parametrize("seed", range(3))
def test_validation_is_taken_from_train_where_names_give_none(stage: ConvertStage, seed: int) -> None:
    files = supervisely(10, datasets=("train", "test"))
    ended = stage.put("x.tar", packed(files, ".tar")).run(split=Split(seed=seed))
    dataset = ended.dataset()
    assert {part: item.pictures for part, item in dataset.splits.items()} == {"train": 8, "validation": 2, "test": 10}
    assert dataset.split_by == "datasets"
    assert any("no picture is meant for validation" in warning for warning in dataset.warnings)
    assert dataset.evaluation_split == "test"


def test_dataset_names_can_be_overruled(stage: ConvertStage) -> None:
    files = supervisely(60, datasets=("train", "val"))
    dataset = stage.put("x.tar", packed(files, ".tar")).run(split=Split(by=SplitBy.HASH)).dataset()
    assert dataset.split_by == "hash"


def test_exact_copies_stay_on_one_side(stage: ConvertStage) -> None:
    """By hash, a picture that lies in two datasets goes where its first copy goes."""
    files = supervisely(120)
    for number in range(0, 120, 3):
        files[f"game/ds1/img/copy{number}.jpg"] = jpeg(number)
        files[f"game/ds1/ann/copy{number}.jpg.json"] = annotation([rectangle("note", 4, 5, 34, 40)])
    ended = stage.put("x.tar", packed(files, ".tar")).run()
    dataset = ended.dataset()
    assert dataset.problem_counts["Duplicate"] == 40
    assert "SplitLeakage" not in dataset.problem_counts


def test_datasets_that_name_no_split_are_refused_where_they_shall_split(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="split by datasets: no picture has one of train"):
        split_of(tmp_path, frames(6), Split(by=SplitBy.DATASETS))
