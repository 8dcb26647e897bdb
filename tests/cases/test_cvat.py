"""CVAT for images 1.1: every shape, subset and notation of names, and the export for videos, which is named."""

import tracemalloc
from pathlib import Path

import pytest

from atoll_contract.errors import DatasetError, Reason
from support.archives import SIZE, encoded, jpeg, picture
from support.read_back import ReadBack, read_back
from support.reader_result import ReaderResult

BOX = '<box label="cone" source="manual" occluded="0" xtl="10.0" ytl="10.0" xbr="40.0" ybr="40.0" z_order="0"></box>'
META = (
    "<meta><task><id>1</id><name>t</name><labels>"
    "<label><name>cone</name><color>#ff0000</color><type>any</type><attributes><attribute><name>colour</name>"
    "</attribute></attributes></label>"
    "<label><name>robot</name><type>skeleton</type></label>"
    "<label><name>bumper</name><type>points</type><parent>robot</parent></label>"
    "<label><name>night</name><type>tag</type></label>"
    "</labels></task></meta>"
)


def image(number: int, name: str, content: str = BOX, extra: str = "") -> str:
    return f'<image id="{number}" name="{name}" width="{SIZE[0]}" height="{SIZE[1]}"{extra}>{content}</image>'


def xml(*images: str, meta: str = META) -> bytes:
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{head}{meta}{''.join(images)}</annotations>".encode()


def one_shape(folder: Path, content: str) -> ReadBack:
    """Five pictures; the first has the content to be tried, the others one box."""
    images = [image(0, "p0.jpg", content), *(image(number, f"p{number}.jpg") for number in range(1, 5))]
    pictures = {f"images/p{number}.jpg": jpeg(number) for number in range(5)}
    return read_back({**pictures, "annotations.xml": xml(*images)}, folder, max_invalid_percent=100.0)


def test_a_task_of_pictures(tmp_path: Path) -> None:
    found = one_shape(tmp_path, BOX + '<box label="robot" xtl="1" ytl="2.5" xbr="3" ybr="4"/>')
    assert found.formats == ("cvat",)
    assert found.boxes == {
        "images/p0.jpg": [("cone", 10, 10, 40, 40), ("robot", 1, 2.5, 3, 4)],
        **{f"images/p{number}.jpg": [("cone", 10, 10, 40, 40)] for number in range(1, 5)},
    }
    assert found.classes == ("cone", "robot")
    assert found.counts == {}


def test_a_picture_without_shapes_is_a_negative(tmp_path: Path) -> None:
    found = one_shape(tmp_path, "")
    assert found.boxes["images/p0.jpg"] == []
    assert found.counts == {}


@pytest.mark.parametrize(
    ("content", "edges"),
    [
        ('<polygon label="cone" points="10.0,12.0;30.5,10.0;20.0,40.0" z_order="0"/>', (10, 10, 30.5, 40)),
        ('<box label="cone" xtl="10" ytl="10" xbr="40" ybr="20" rotation="90.0"/>', (20, 0, 30, 30)),
        ('<box label="cone" xtl="10" ytl="10" xbr="40" ybr="20" rotation="-270"/>', (20, 0, 30, 30)),
        ('<ellipse label="cone" cx="20" cy="25" rx="10" ry="5"/>', (10, 20, 30, 30)),
        ('<ellipse label="cone" cx="20" cy="25" rx="10" ry="5" rotation="90"/>', (15, 15, 25, 35)),
        ('<ellipse label="cone" cx="20" cy="25" rx="6" ry="6" rotation="33"/>', (14, 19, 26, 31)),
        ('<mask label="cone" rle="3, 5, 4" left="10" top="12" width="4" height="3"/>', (10, 12, 14, 15)),
        (
            '<cuboid label="cone" xtl1="10" ytl1="11" xbl1="10" ybl1="30" xtr1="20" ytr1="12" xbr1="20" ybr1="31" '
            'xtl2="25" ytl2="9" xbl2="25" ybl2="28" xtr2="15" ytr2="8" xbr2="15" ybr2="27"/>',
            (10, 8, 25, 31),
        ),
        (
            '<skeleton label="cone"><points label="a" outside="0" points="10,12"/>'
            '<points label="b" outside="1" points="60,2"/><points label="c" outside="0" points="30,40"/></skeleton>',
            (10, 12, 30, 40),
        ),
    ],
    ids=["polygon", "turned", "turned back", "ellipse", "turned ellipse", "circle", "mask", "cuboid", "skeleton"],
)
def test_the_box_around_a_shape_is_taken_and_counted(
    tmp_path: Path, content: str, edges: tuple[float, float, float, float]
) -> None:
    found = one_shape(tmp_path, content)
    assert found.boxes["images/p0.jpg"] == [("cone", *edges)]
    assert found.counts == {"BoxAround": 1}


@pytest.mark.parametrize("turn", ["0", "0.0", "360", "-720"])
def test_a_box_that_is_not_turned_is_a_box(tmp_path: Path, turn: str) -> None:
    found = one_shape(tmp_path, BOX.replace("<box ", f'<box rotation="{turn}" '))
    assert found.boxes["images/p0.jpg"] == [("cone", 10, 10, 40, 40)]
    assert found.counts == {}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('<polyline label="cone" points="10,12;30,40"/>', "GeometryWithoutArea"),
        ('<points label="cone" points="10,12"/>', "GeometryWithoutArea"),
        ('<skeleton label="cone"><points label="a" points="10,12"/></skeleton>', "GeometryWithoutArea"),
        ('<skeleton label="cone"/>', "GeometryWithoutArea"),
        ('<spline label="cone" points="10,12;30,40"/>', "GeometryUnknown"),
        ('<polygon label="cone" points="10,12;30,40"/>', "BoxMalformed"),
        ('<polygon label="cone" points="10;30,40;1,1"/>', "BoxMalformed"),
        ('<polygon label="cone"/>', "BoxMalformed"),
        ('<cuboid label="cone" xtl1="1"/>', "BoxMalformed"),
        ('<cuboid label="cone"/>', "BoxMalformed"),
        ('<box label="cone" xtl="1" ytl="wide" xbr="3" ybr="4"/>', "BoxMalformed"),
        ('<box label="cone" xtl="1"/>', "BoxMalformed"),
        ('<box label="cone" xtl="1" ytl="2" xbr="3" ybr="4" rotation="steep"/>', "BoxMalformed"),
        ('<box xtl="1" ytl="2" xbr="3" ybr="4"/>', "BoxMalformed"),
        ('<mask label="cone" left="10" top="12" width="0" height="0"/>', "BoxEmpty"),
    ],
)
def test_a_shape_without_a_box_is_left_out_with_its_kind(tmp_path: Path, content: str, kind: str) -> None:
    found = one_shape(tmp_path, BOX + content)
    assert found.boxes["images/p0.jpg"] == [("cone", 10, 10, 40, 40)]
    assert found.counts[kind] == 1
    assert set(found.counts) <= {kind, "BoxAround"}


@pytest.mark.parametrize("lead", ["", "export/"])
def test_frames_of_a_video_have_no_suffix_and_a_folder_for_each_subset(tmp_path: Path, lead: str) -> None:
    files: dict[str, bytes] = {}
    images: list[str] = []
    boxes: dict[str, list[tuple[str, float, float, float, float]]] = {}
    for part, (subset, count) in enumerate((("Train", 4), ("Validation", 2))):
        for number in range(count):
            content = f'<box label="cone" xtl="{10 + part}" ytl="10" xbr="40" ybr="40"/>'
            extra = f' subset="{subset}" task_id="{part}"'
            images.append(image(len(images), f"frame_{number:06d}", content, extra))
            name = f"{lead}images/{subset}/frame_{number:06d}.PNG"
            files[name] = jpeg(100 * part + number)
            boxes[name] = [("cone", 10 + part, 10, 40, 40)]
    found = read_back({**files, f"{lead}annotations.xml": xml(*images)}, tmp_path)
    assert found.boxes == boxes
    assert found.split == {name: "train" if "Train" in name else "validation" for name in boxes}
    assert found.counts == {"PictureMisnamed": 6}


def test_a_subset_that_is_kept_without_folders(tmp_path: Path) -> None:
    parts = ["Train"] * 4 + ["Test"] * 2 + ["Validation"] * 2
    images = [image(number, f"p{number}.jpg", extra=f' subset="{part}"') for number, part in enumerate(parts)]
    files = {f"images/p{number}.jpg": jpeg(number) for number in range(8)}
    found = read_back({**files, "annotations.xml": xml(*images)}, tmp_path)
    assert list(found.split.values()) == [part.lower() for part in parts]


def test_folders_of_a_task_that_mean_a_split(tmp_path: Path) -> None:
    names = [f"{'train' if number < 4 else 'val'}/day 1/p{number}.jpg" for number in range(6)]
    files = {f"images/{name}": jpeg(number) for number, name in enumerate(names)}
    found = read_back({**files, "annotations.xml": xml(*(image(n, name) for n, name in enumerate(names)))}, tmp_path)
    assert list(found.split.values()) == ["train"] * 4 + ["validation"] * 2


def test_tags_of_pictures_that_mean_a_split(tmp_path: Path) -> None:
    images = [
        image(number, f"p{number}.jpg", f'{BOX}<tag label="night"/><tag label="{"train" if number < 4 else "val"}"/>')
        for number in range(6)
    ]
    files = {f"images/p{number}.jpg": jpeg(number) for number in range(6)}
    found = read_back({**files, "annotations.xml": xml(*images)}, tmp_path)
    assert list(found.split.values()) == ["train"] * 4 + ["validation"] * 2
    assert all(boxes == [("cone", 10, 10, 40, 40)] for boxes in found.boxes.values())


def test_a_picture_that_is_missing_is_counted(tmp_path: Path) -> None:
    files = {"images/p0.jpg": jpeg(), "annotations.xml": xml(image(0, "p0.jpg"), image(1, "p1.jpg"), image(2, ""))}
    result = ReaderResult(files, tmp_path)
    assert [found.image.name for found in result.images] == ["images/p0.jpg"]
    assert result.counts == {"PictureMissing": 2}
    assert result.problems.listed[0].detail == '"p1.jpg" with 1 shape is not in the archive'


@pytest.mark.parametrize(("tasks", "counts"), [("0112", {"AnnotationDuplicate": 2}), ("0000", {"PictureMerged": 2})])
def test_frames_of_tasks_that_overwrote_each_other(tmp_path: Path, tasks: str, counts: dict[str, int]) -> None:
    """Two tasks have one name for the first frame, so its boxes are of two videos. One task enters a frame twice."""
    files = {f"images/frame_{number}.PNG": encoded(picture(number), "PNG") for number in (0, 1, 2, 3)}
    images = [image(number, f"frame_{number}", extra=f' task_id="{tasks[number]}"') for number in range(4)]
    other = '<box label="cone" xtl="1" ytl="2" xbr="9" ybr="8"/>'
    images += [image(8, "frame_0", other, ' task_id="%s"' % ("7" if tasks != "0000" else "0"))]
    images += [image(9, "frame_1", other, ' task_id="%s"' % ("8" if tasks != "0000" else "0"))]
    found = read_back({**files, "annotations.xml": xml(*images)}, tmp_path)
    merged = [("cone", 1, 2, 9, 8)] if tasks == "0000" else []
    for number in range(4):
        more = merged if number < 2 else []
        assert found.boxes[f"images/frame_{number}.PNG"] == [("cone", 10, 10, 40, 40), *more]
    assert found.counts == counts


def test_two_tasks_beside_each_other(tmp_path: Path) -> None:
    files: dict[str, bytes] = {}
    for part in range(2):
        files[f"task_{part}/images/frame_000000.png"] = jpeg(part)
        files[f"task_{part}/annotations.xml"] = xml(image(0, "frame_000000"))
    result = ReaderResult(files, tmp_path)
    assert [found.image.name for found in result.images] == [f"task_{part}/images/frame_000000.png" for part in (0, 1)]


def test_a_class_of_its_own_order(tmp_path: Path) -> None:
    files = {"images/p0.jpg": jpeg(), "annotations.xml": xml(image(0, "p0.jpg"))}
    assert ReaderResult(files, tmp_path).classes == ("cone", "robot")


@pytest.mark.parametrize("meta", [META, ""])
def test_the_export_for_videos_is_named_with_the_one_to_take(tmp_path: Path, meta: str) -> None:
    track = '<track id="0" label="cone"><box frame="0" xtl="1" ytl="2" xbr="3" ybr="4" outside="0"/></track>'
    files = {"images/frame_000000.PNG": jpeg(), "annotations.xml": xml(track, meta=meta)}
    with pytest.raises(
        DatasetError, match=r'"CVAT for video 1\.1".*export the task as "CVAT for images 1\.1"'
    ) as raised:
        read_back(files, tmp_path)
    assert raised.value.reason is Reason.DATASET_MALFORMED


@pytest.mark.parametrize(
    ("data", "reason", "expected"),
    [
        (xml(image(0, "p0.jpg"))[:-20], Reason.ANNOTATION_INVALID, r'"annotations.xml" line 2 col \d+: '),
        (
            b'<!DOCTYPE annotations [<!ENTITY a "b">]>' + xml(image(0, "p0.jpg")).partition(b"\n")[2],
            Reason.DATASET_UNSAFE,
            'DTD not allowed in "annotations.xml"',
        ),
    ],
    ids=["cut off", "entities"],
)
def test_a_damaged_or_hostile_file_is_named(tmp_path: Path, data: bytes, reason: Reason, expected: str) -> None:
    with pytest.raises(DatasetError, match=expected) as raised:
        read_back({"images/p0.jpg": jpeg(), "annotations.xml": data}, tmp_path)
    assert raised.value.reason is reason


def test_the_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        images = (image(number, f"q{number}.jpg", BOX * 50) for number in range(count))
        files = {"images/p.jpg": jpeg(), "annotations.xml": xml(*images)}
        tracemalloc.start()
        try:
            assert ReaderResult(files, tmp_path / str(count)).counts == {"PictureMissing": count}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    small, large = peak(20), peak(400)
    assert large < 1.5 * small
