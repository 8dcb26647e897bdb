"""The user's own split is kept, however an export says it; where it cannot be kept, that is counted with the reason."""

import json
from pathlib import Path

import pytest

from atoll_contract.convert_spec import ConvertSpec, Split, SplitBy
from atoll_stages.convert.pipeline import Source, read_dataset, summarize
from support.archives import SIZE, annotation, coco, jpeg, rectangle, voc_xml, write_files

LINE = b"0 0.5 0.5 0.25 0.5\n"
T, V, E = "train", "validation", "test"


class Converted:
    """What a conversion of some files gives: the split of each picture, and what is counted about it."""

    def __init__(self, files: dict[str, bytes], folder: Path, by: SplitBy = SplitBy.AUTO) -> None:
        source = Source("data", write_files(files, folder / "data"))
        spec = ConvertSpec(sources=(), split=Split(by=by))
        with read_dataset([source], spec, folder / "work") as conversion:
            summary = summarize(conversion)
            self.splits = {example.name: example.split for example in conversion.store.examples()}
            self.by = summary.split_by
            self.counts = dict(conversion.problems.counts)
            self.lost = [problem.detail for problem in conversion.problems.listed if problem.kind == "SplitLost"]


def labelled(*names: str) -> dict[str, bytes]:
    """Pictures with YOLO labels beside them; every third frame of a video each."""
    files: dict[str, bytes] = {"classes.txt": b"cone\n"}
    for name in names:
        files[name] = jpeg(sum(ord(letter) * at for at, letter in enumerate(name, start=1)) % 9973)
        files[name.rpartition(".")[0] + ".txt"] = LINE
    return files


def frames(*folders: str) -> list[str]:
    """Two neighbouring frames in each folder: by hash they would stay together."""
    return [f"{folder}/frame_{2 * at + n:06d}.jpg" for at, folder in enumerate(folders) for n in (0, 1)]


# Folders.


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("obj_Train_data", "obj_Validation_data", "obj_Test_data"),
        ("obj_train_data", "obj_valid_data", "obj_testing_data"),
        ("Train", "Validation", "Test"),
        ("x/training/y", "x/dev/y", "x/eval/../test"),
        ("train2017", "val2017", "test2017"),
        ("train_images", "val_images", "test_images"),
        ("TrainSet", "ValSet", "TestSet"),
        ("images/train-1", "images/val-1", "images/test-1"),
    ],
)
def test_folders_of_a_split(tmp_path: Path, train: str, validation: str, test: str) -> None:
    test = test.replace("eval/../", "")
    names = frames(train, validation, test)
    converted = Converted(labelled(*names), tmp_path)
    assert converted.splits == dict(zip(names, (T, T, V, V, E, E), strict=True))
    assert converted.by is SplitBy.DATASETS
    assert converted.counts == {}


def test_one_default_subset_is_no_split(tmp_path: Path) -> None:
    """CVAT writes `obj_train_data` and a list of all pictures where a project has no subsets."""
    names = frames(*["obj_train_data"] * 4)
    files = labelled(*names)
    files["train.txt"] = "".join(f"data/{name}\n" for name in names).encode()
    converted = Converted(files, tmp_path)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {}


@pytest.mark.parametrize("folders", [("test field", "train station"), ("test", "test"), ("trained", "tested")])
def test_folders_of_another_meaning_are_no_split(tmp_path: Path, folders: tuple[str, str]) -> None:
    converted = Converted(labelled(*frames(*folders)), tmp_path)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {}


def test_folders_of_the_pictures_alone(tmp_path: Path) -> None:
    files: dict[str, bytes] = {"classes.txt": b"cone\n"}
    expected = {}
    for number, part in enumerate(("train", "train", "val")):
        files[f"images/{part}/p{number}.jpg"], files[f"labels/p{number}.txt"] = jpeg(number), LINE
        expected[f"images/{part}/p{number}.jpg"] = {"train": T, "val": V}[part]
    converted = Converted(files, tmp_path)
    assert converted.splits == expected
    assert converted.counts == {}


# Lists.


@pytest.mark.parametrize(
    ("lists", "path"),
    [
        (("train.txt", "val.txt"), "data/obj/{}.jpg"),
        (("Train.txt", "Validation.txt"), "build/darknet/x64/data/obj/{}.jpg"),
        (("lists/training.txt", "lists/valid.txt"), "./obj/{}.jpg"),
        (("autosplit_train.txt", "autosplit_val.txt"), "obj/{}.jpg"),
        (("train_list.txt", "test_list.txt"), "C:\\data\\obj\\{}.jpg"),
        (("train.txt", "dev.txt"), "{}.jpg"),
        (("train.txt", "dev.txt"), "'{}.jpg'"),
        (("train.txt", "dev.txt"), "{}"),
        (("train.txt", "val.txt"), "../images/{}.PNG"),
        (("train.txt", "val.txt"), "obj/{}.jpg 10,10,40,40,0"),
    ],
)
def test_lists_of_pictures(tmp_path: Path, lists: tuple[str, str], path: str) -> None:
    stems = [f"frame_{number:06d}" for number in range(6)]
    files = labelled(*(f"obj/{stem}.jpg" for stem in stems))
    files[lists[0]] = "\r\n".join(path.format(stem) for stem in stems[:4]).encode()
    files[lists[1]] = "\n".join([*(path.format(stem) for stem in stems[4:]), "\n"]).encode()
    converted = Converted(files, tmp_path)
    other = E if "test" in lists[1] else V
    found = {name: split for name, split in converted.splits.items() if int(name[-5]) >= 4 or other == V}
    assert found == {f"obj/{stem}.jpg": T if n < 4 else other for n, stem in enumerate(stems) if n >= 4 or other == V}
    assert converted.by is SplitBy.DATASETS
    assert converted.counts == {}


def test_lists_tell_frames_of_the_same_name_apart(tmp_path: Path) -> None:
    names = frames("obj_a_data", "obj_b_data")
    names = [name.replace("000002", "000000").replace("000003", "000001") for name in names]
    files = labelled(*names)
    files["train.txt"] = "".join(f"data/{name}\n" for name in (names[0], names[3])).encode()
    files["valid.txt"] = "".join(f"data/{name}\n" for name in (names[1], names[2])).encode()
    converted = Converted(files, tmp_path)
    assert converted.splits == {names[0]: T, names[3]: T, names[1]: V, names[2]: V}


@pytest.mark.parametrize("quote", ['"', "'", ""])
@pytest.mark.parametrize("folder", ["ImageSets/Main", "ImageSets", "VOC2007/ImageSets/Main", "ImageSets/Layout"])
def test_image_sets_with_blanks_in_the_names(tmp_path: Path, quote: str, folder: str) -> None:
    root = folder.partition("ImageSets")[0]
    files, expected = {}, {}
    for number in range(8):
        name = f"my frame {number}"
        files[f"{root}JPEGImages/{name}.jpg"] = jpeg(number)
        files[f"{root}Annotations/{name}.xml"] = voc_xml(f"{name}.jpg", [("cone", 10, 10, 40, 40)])
        expected[f"{root}JPEGImages/{name}.jpg"] = V if number in (1, 4, 6) else T
    for base, numbers in (("train", (0, 2, 3, 5, 7)), ("val", (1, 4, 6)), ("trainval", range(8))):
        files[f"{folder}/{base}.txt"] = "\n".join(f"{quote}my frame {number}{quote}" for number in numbers).encode()
    files[f"{folder}/cone_train.txt"] = b"".join(f"my frame {number}  1\n".encode() for number in range(8))
    converted = Converted(files, tmp_path)
    assert converted.splits == expected
    assert converted.counts == {}


def test_main_counts_among_image_sets(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(4)]
    files: dict[str, bytes] = {}
    for number, name in enumerate(names):
        files[f"JPEGImages/{name}.jpg"] = jpeg(number)
        files[f"Annotations/{name}.xml"] = voc_xml(f"{name}.jpg", [("cone", 10, 10, 40, 40)])
    files |= {"ImageSets/Main/train.txt": b"p0\np1\np2\n", "ImageSets/Main/val.txt": b"p3 -1\n"}
    files |= {"ImageSets/Segmentation/train.txt": b"p3\n", "ImageSets/Segmentation/val.txt": b"p0\n"}
    converted = Converted(files, tmp_path)
    assert converted.splits == {f"JPEGImages/{name}.jpg": V if name == "p3" else T for name in names}
    assert converted.counts == {}


def test_lists_that_obj_data_names(tmp_path: Path) -> None:
    names = frames("obj", "obj", "obj")
    files = labelled(*names)
    files["obj.data"] = b"classes = 1\ntrain  = data/first.txt\nvalid  = data/second.txt\nnames = data/classes.txt\n"
    files["first.txt"] = "\n".join(f"data/{name}" for name in names[::2]).encode()
    files["second.txt"] = "\n".join(f"data/{name}" for name in names[1::2]).encode()
    converted = Converted(files, tmp_path)
    assert converted.splits == {name: (T, V)[at % 2] for at, name in enumerate(names)}


@pytest.mark.parametrize(
    "entries",
    [
        "train: images/one\nval: images/two\n",
        "path: /content/datasets/robots\ntrain: images/one\nval: images/two\n",
        "path: ..\ntrain: ../images/one/\nval: ./images/two\n",
        "train: [images/one]\nval:\n  - C:\\data\\images\\two\n",
        "train: images\nval: images/two\n",
        "train: one.lst.txt\nval: two.lst.txt\n",
    ],
)
def test_entries_of_a_data_yaml(tmp_path: Path, entries: str) -> None:
    names = frames("images/one", "images/two", "images/one")
    files = {**labelled(*names), "data.yaml": f"names: [cone]\n{entries}".encode()}
    if "lst" in entries:
        files["one.lst.txt"] = "\n".join(name for name in names if "one" in name).encode()
        files["two.lst.txt"] = "\n".join(name for name in names if "two" in name).encode()
    converted = Converted(files, tmp_path)
    assert converted.splits == {name: V if "two" in name else T for name in names}
    assert converted.counts == {}


def test_one_folder_for_train_and_val_is_no_split(tmp_path: Path) -> None:
    files = {**labelled(*frames(*["images"] * 4)), "data.yaml": b"names: [cone]\ntrain: images\nval: images\n"}
    converted = Converted(files, tmp_path)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {}


def test_cvat_for_ultralytics(tmp_path: Path) -> None:
    files: dict[str, bytes] = {"data.yaml": b"names:\n  0: cone\npath: .\ntrain: Train.txt\nRobot 1: Robot 1.txt\n"}
    for subset in ("Train", "Validation", "Robot 1"):
        for number in range(2):
            files[f"images/{subset}/frame_{number:06d}.PNG"] = jpeg(number + 10 * len(subset))
            files[f"labels/{subset}/frame_{number:06d}.txt"] = LINE
        lines = [f"data/images/{subset}/frame_{number:06d}.PNG\n" for number in range(2)]
        files[f"{subset}.txt"] = "".join(lines).encode()
    converted = Converted(files, tmp_path)
    found = {name.split("/")[1]: split for name, split in converted.splits.items()}
    assert found == {"Train": T, "Validation": V, "Robot 1": T}
    assert converted.counts["SplitLost"] == 2


def test_lists_serve_every_format(tmp_path: Path) -> None:
    files = {**coco(6, folder="set"), "set/train.txt": b"p0000.jpg\np0001.jpg\np0002.jpg\n"}
    files["set/val.txt"] = b"p0003.jpg\np0004.jpg\np0005.jpg\n"
    converted = Converted(files, tmp_path)
    assert converted.splits == {f"set/p{number:04d}.jpg": T if number < 3 else V for number in range(6)}
    assert converted.counts == {}


@pytest.mark.parametrize("other", ["", "a.jpg", "z.jpg"])
def test_lists_of_pictures_without_suffix(tmp_path: Path, other: str) -> None:
    """Their numbers in the archive may be beyond those of all pictures that have one."""
    names = [f"cam/frame_{number:02d}" for number in range(5)]
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in enumerate(names)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 5, 30, 35]} for n in range(5)]
    document = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cone"}]}
    files = {name: jpeg(number) for number, name in enumerate(names)} | ({other: jpeg(99)} if other else {})
    files |= {"boxes.json": json.dumps(document).encode()}
    files |= {"train.txt": "\n".join(names[:2]).encode(), "val.txt": "\n".join(names[2:]).encode()}
    converted = Converted(files, tmp_path)
    assert converted.splits == dict(zip(names, (T, T, V, V, V), strict=True))
    assert converted.lost == []


@pytest.mark.parametrize("lines", ["'7'.jpg\n7.jpg\n", "'7'\n7\n", '"\'7\'.jpg"\n"7.jpg"\n', "'7' 1\n7 1\n"])
def test_quotes_that_are_part_of_a_name(tmp_path: Path, lines: str) -> None:
    files = labelled("a/'7'.jpg", "a/7.jpg", "a/8.jpg") | {"train.txt": lines.encode(), "val.txt": b"8.jpg\n"}
    converted = Converted(files, tmp_path)
    assert converted.splits == {"a/'7'.jpg": T, "a/7.jpg": T, "a/8.jpg": V}
    assert converted.lost == []


def test_a_list_that_names_the_last_member_which_is_no_picture(tmp_path: Path) -> None:
    names = frames("obj", "obj")
    files = labelled(*names)
    files |= {"train.txt": b"\n".join([*(name.encode() for name in names[:3]), b"zzz"]), "zzz": b"no picture"}
    files["val.txt"] = names[3].encode()
    converted = Converted(files, tmp_path)
    assert converted.splits == dict(zip(names, (T, T, T, V), strict=True))
    assert converted.lost == []


def test_a_list_of_label_files(tmp_path: Path) -> None:
    """It names no picture, and gives no split."""
    files = labelled(*frames("obj", "obj", "obj"))
    files["train.txt"], files["val.txt"] = b"obj/frame_000000.txt\nclasses.txt\n", b"obj/frame_000005.txt\n"
    assert Converted(files, tmp_path).by is SplitBy.HASH


def test_a_picture_called_train_is_no_list(tmp_path: Path) -> None:
    names = ["train.jpg", "val.jpg", "0.jpg", "1.jpg"]
    converted = Converted(labelled(*names), tmp_path)
    assert converted.by is SplitBy.HASH
    assert set(converted.splits) == set(names)


# Documents for many pictures.


def test_a_document_of_all_beside_those_of_the_parts(tmp_path: Path) -> None:
    def document(*numbers: int) -> bytes:
        images = [{"id": n, "file_name": f"p{n}.jpg", "width": SIZE[0], "height": SIZE[1]} for n in numbers]
        boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [4, 5, 30, 35]} for n in numbers]
        categories = [{"id": 1, "name": "cone"}]
        return json.dumps({"images": images, "annotations": boxes, "categories": categories}).encode()

    files = {f"images/p{number}.jpg": jpeg(number) for number in range(6)}
    files |= {"all.json": document(*range(6)), "train.json": document(0, 2, 4), "val.json": document(1, 3, 5)}
    converted = Converted(files, tmp_path)
    assert converted.splits == {f"images/p{number}.jpg": (T, V)[number % 2] for number in range(6)}


# What cannot be kept.


def test_a_picture_in_two_lists(tmp_path: Path) -> None:
    names = frames("obj", "obj", "obj")
    files = labelled(*names)
    files["train.txt"] = "\n".join(names[:4]).encode()
    files["val.txt"] = "\n".join(names[3:]).encode()
    converted = Converted(files, tmp_path)
    assert converted.counts == {"SplitLost": 1}
    assert converted.lost == ['in "train.txt" and in "val.txt"']
    assert converted.splits == {name: T if at < 4 else V for at, name in enumerate(names)}


def test_lists_of_a_part(tmp_path: Path) -> None:
    names = frames("obj", "obj", "obj")
    files = labelled(*names)
    files["train.txt"], files["val.txt"] = "\n".join(names[:2]).encode(), "\n".join(names[2:4]).encode()
    converted = Converted(files, tmp_path)
    assert converted.counts == {"SplitLost": 2}
    assert converted.lost == ['in none of the lists "train.txt", "val.txt"'] * 2
    assert converted.splits == {**dict.fromkeys(names, T), names[2]: V, names[3]: V}


def test_a_list_of_pictures_that_are_not_there(tmp_path: Path) -> None:
    files = labelled(*frames("obj", "obj", "obj"))
    files["train.txt"], files["val.txt"] = b"old/a.jpg\nold/b.jpg\n", b"notes about validation\n"
    converted = Converted(files, tmp_path)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {"SplitLost": 1, "FileUnused": 1}
    assert converted.lost == ["none of its 2 pictures is in the archive"]


def test_parts_without_train(tmp_path: Path) -> None:
    names = frames("val", "test", "more")
    converted = Converted(labelled(*names), tmp_path)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {"SplitLost": 1}
    assert converted.lost == ["2 pictures for test and 2 pictures for validation by datasets, but no picture for train"]


def test_a_split_that_is_asked_for_is_not_lost(tmp_path: Path) -> None:
    names = frames("obj", "obj", "obj")
    files = {**labelled(*names), "train.txt": names[0].encode(), "val.txt": names[0].encode()}
    converted = Converted(files, tmp_path, SplitBy.HASH)
    assert converted.by is SplitBy.HASH
    assert converted.counts == {}


def test_tags_beat_lists(tmp_path: Path) -> None:
    files = {}
    for number in range(4):
        files[f"set/img/p{number}.jpg"] = jpeg(number)
        tags = ("val",) if number else ("train",)
        files[f"set/ann/p{number}.jpg.json"] = annotation([rectangle("cone", 4, 5, 34, 40)], tags=tags)
    files |= {"train.txt": b"p1.jpg\np2.jpg\n", "val.txt": b"p0.jpg\np3.jpg\n"}
    converted = Converted(files, tmp_path)
    assert converted.by is SplitBy.TAGS
    assert converted.splits == {f"set/img/p{number}.jpg": V if number else T for number in range(4)}
