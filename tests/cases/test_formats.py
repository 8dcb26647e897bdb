"""Formats as they meet in people's archives: two in one, one that is not read, labels without pictures or names."""

import json
from pathlib import Path

import pytest

from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import ExitCode, Reason
from support.archives import SIZE, annotation, jpeg, meta, packed, rectangle, tar_bytes, tfod_csv, voc_xml, zip_bytes
from support.convert_stage import ConvertStage, Ended
from support.converted_pictures import PixelBox, pictures_of, warnings_of

BOX: PixelBox = ("cone", 8, 12, 40, 36)
LINE = b"0 0.375 0.5 0.5 0.5\n"


@pytest.fixture
def stage(tmp_path: Path) -> ConvertStage:
    return ConvertStage(tmp_path)


def images(count: int, folder: str = "") -> dict[str, bytes]:
    return {f"{folder}d{number:02d}.jpg": jpeg(number) for number in range(count)}


def xml(number: int, box: PixelBox = BOX) -> dict[str, bytes]:
    return {f"d{number:02d}.xml": voc_xml(f"d{number:02d}.jpg", [box])}


def txt(number: int, line: bytes = LINE) -> dict[str, bytes]:
    return {f"d{number:02d}.txt": line}


def merged(*parts: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for part in parts for name, data in part.items()}


def convert(stage: ConvertStage, files: dict[str, bytes], form: DatasetFormat = DatasetFormat.AUTO) -> Ended:
    return stage.put("x.tar", packed(files, ".tar"), form=form).run()


def formats(ended: Ended) -> str:
    return ended.dataset().sources[0].format


def coco_of(count: int) -> dict[str, bytes]:
    left, top, right, bottom = BOX[1:]
    document = {
        "images": [
            {"id": number, "file_name": f"d{number:02d}.jpg", "width": SIZE[0], "height": SIZE[1]}
            for number in range(count)
        ],
        "annotations": [
            {"id": number, "image_id": number, "category_id": 1, "bbox": [left, top, right - left, bottom - top]}
            for number in range(count)
        ],
        "categories": [{"id": 1, "name": "cone"}],
    }
    return {"instances.json": json.dumps(document).encode()}


def test_d3_voc_and_yolo_label_different_pictures(stage: ConvertStage) -> None:
    labels = [xml(number) for number in range(3)] + [txt(number) for number in range(3, 12)]
    ended = convert(stage, merged(images(12), {"classes.txt": b"cone\n"}, *labels))
    assert pictures_of(ended) == {name: [BOX] for name in images(12)}
    assert warnings_of(ended) == {}
    assert formats(ended) == "voc, yolo"


def test_d3_coco_and_supervisely_in_two_folders(stage: ConvertStage) -> None:
    project = {"p/meta.json": meta("cone")}
    for number in range(20, 23):
        project[f"p/ds/img/s{number}.jpg"] = jpeg(number)
        project[f"p/ds/ann/s{number}.jpg.json"] = annotation([rectangle(*BOX)])
    ended = convert(stage, merged(images(4), coco_of(4), project))
    expected = [*images(4), "s20.jpg", "s21.jpg", "s22.jpg"]
    assert pictures_of(ended) == {name: [BOX] for name in expected}
    assert formats(ended) == "supervisely, coco"


@pytest.mark.parametrize("line", [LINE, b"0 0.372 0.503 0.497 0.51\n"], ids=["equal", "rounded"])
def test_d3_the_same_boxes_in_two_formats_are_taken_once(stage: ConvertStage, line: bytes) -> None:
    labels = [merged(xml(number), txt(number, line)) for number in range(4)]
    ended = convert(stage, merged(images(4), {"classes.txt": b"cone\n"}, *labels))
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == {"FormatRepeated": 4}


def test_d3_an_empty_file_of_a_second_format_takes_no_box_away(stage: ConvertStage) -> None:
    labels = [merged(xml(number), txt(number, b"" if number == 3 else LINE)) for number in range(4)]
    ended = convert(stage, merged(images(4), {"classes.txt": b"cone\n"}, *labels))
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == {"FormatRepeated": 4}
    assert "1 box, and none here" in ended.dataset().problems[3].detail


def test_d3_three_formats_with_the_same_boxes(stage: ConvertStage) -> None:
    labels = [merged(xml(number), txt(number)) for number in range(4)]
    ended = convert(stage, merged(images(4), coco_of(4), {"classes.txt": b"cone\n"}, *labels))
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == {"FormatRepeated": 8}


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (b"cone\n", b"0 0.5 0.5 0.9 0.9\n"),
        (b"cube\n", LINE),
        (b"cone\n", LINE + LINE),
    ],
    ids=["other box", "other class", "one more"],
)
def test_d3_other_boxes_in_two_formats_are_refused_with_both_named(
    stage: ConvertStage, names: bytes, line: bytes
) -> None:
    labels = [merged(xml(number), txt(number)) for number in range(3)]
    files = merged(images(4), {"classes.txt": names}, *labels, xml(3), txt(3, line))
    ended = convert(stage, files)
    assert (ended.code, ended.reason) == (ExitCode.DATASET_MALFORMED, Reason.DATASET_MALFORMED)
    assert "two formats label" in ended.message
    assert 'differently: voc in "d0' in ended.message
    assert 'and yolo in "d0' in ended.message
    assert "spec.datasets[].format" in ended.message


@pytest.mark.parametrize("form", [DatasetFormat.VOC, DatasetFormat.YOLO])
def test_d3_the_format_that_is_named_is_read_alone(stage: ConvertStage, form: DatasetFormat) -> None:
    labels = [merged(xml(number), txt(number, b"0 0.5 0.5 0.5 0.5\n")) for number in range(4)]
    ended = convert(stage, merged(images(4), {"classes.txt": b"cone\n"}, *labels), form)
    box = BOX if form is DatasetFormat.VOC else ("cone", 16, 12, 48, 36)
    assert pictures_of(ended) == {name: [box] for name in images(4)}
    assert formats(ended) == form


def test_d3_a_list_of_classes_alone_is_no_second_format(stage: ConvertStage) -> None:
    labels = [xml(number) for number in range(4)]
    ended = convert(stage, merged(images(4), {"classes.txt": b"cone\ncube\n"}, *labels))
    assert pictures_of(ended) == {name: [BOX] for name in images(4)}
    assert warnings_of(ended) == {}
    assert formats(ended) == "voc"


def test_a_format_that_is_named_but_not_there_says_which_is(stage: ConvertStage) -> None:
    ended = convert(stage, merged(images(2), xml(0), xml(1)), DatasetFormat.COCO)
    assert ended.reason is Reason.DATASET_MALFORMED
    assert "it looks like voc, not coco" in ended.message


def sly(names: list[str]) -> dict[str, bytes]:
    files = {f"robots/ds0/ann/{name}.json": annotation([rectangle(*BOX)]) for name in names}
    return {"robots/meta.json": meta("cone"), **files}


def test_e7_the_blob_export_of_supervisely(stage: ConvertStage) -> None:
    inner = {"robots/blob/small_images.tar": tar_bytes(images(4)), "robots/ds0/small_images_offsets.pkl": b"\x80\x04N."}
    ended = convert(stage, merged(sly(sorted(images(4))), inner))
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "Supervisely's export in Blob format" in ended.message
    assert '"robots/blob/small_images.tar"' in ended.message
    assert '".json + images"' in ended.message


@pytest.mark.parametrize(
    "files",
    [
        sly(["a.jpg", "b.jpg"]),
        coco_of(3),
        merged(xml(0), xml(1)),
        merged({"data.yaml": b"names: [cone]\n"}, {"labels/a.txt": LINE, "labels/b.txt": LINE}),
        {"_annotations.csv": b"filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,64,48,cone,1,1,9,9\n"},
    ],
    ids=["supervisely", "coco", "voc", "yolo", "csv"],
)
def test_e8_labels_without_pictures(stage: ConvertStage, files: dict[str, bytes]) -> None:
    ended = convert(stage, files)
    assert (ended.code, ended.reason) == (ExitCode.NO_USABLE_EXAMPLES, Reason.NO_USABLE_EXAMPLES)
    assert "it holds labels without pictures: export with images" in ended.message
    assert '".json + images"' in ended.message


@pytest.mark.parametrize("folder", ["", "labels/train/"])
def test_c4_yolo_without_class_names(stage: ConvertStage, folder: str) -> None:
    ended = convert(stage, merged(images(3), {f"{folder}d00.txt": LINE, f"{folder}d01.txt": LINE + LINE}))
    assert ended.reason is Reason.DATASET_MALFORMED
    assert f'"{folder}d00.txt" has labels of YOLO, and no file has the class names' in ended.message
    assert "add classes.txt with one name a line" in ended.message


def test_c4_yolo_without_class_names_beside_voc_is_in_the_warning(stage: ConvertStage) -> None:
    ended = convert(stage, merged(images(4), *(xml(number) for number in range(3)), txt(3)))
    assert sorted(pictures_of(ended)) == ["d00.jpg", "d01.jpg", "d02.jpg"]
    assert warnings_of(ended) == {"AnnotationMissing": 1, "FileUnused": 1}
    warning = next(text for text in ended.dataset().warnings if "nothing was taken" in text)
    assert '"d03.txt": labels of YOLO, and no file has the class names: add classes.txt' in warning


REGION = {"tags": ["cone"], "boundingBox": {"left": 8, "top": 12, "width": 32, "height": 24}}
UNREAD = {
    "VoTT JSON": ("a-asset.json", {"asset": {"name": "d00.jpg"}, "regions": [REGION]}),
    "Datumaro": ("default.json", {"info": {}, "items": [{"annotations": [], "media_type": 2}]}),
    "Label Studio's own JSON": ("a.json", [{"annotations": [{"result": [{"from_name": "label"}]}]}]),
    "VGG Image Annotator JSON": ("via.json", {"d00.jpg": {"regions": [{"shape_attributes": {"x": 8}}]}}),
    "Edge Impulse": (
        "bounding_boxes.labels",
        {"version": 1, "boundingBoxes": {"d00.jpg": [{"label": "cone", "x": 8}]}},
    ),
    "Hugging Face's metadata": ("metadata.jsonl", {"file_name": "d00.jpg", "objects": {"bbox": [[8, 12, 32, 24]]}}),
    "VGG Image Annotator CSV": ("via.csv", "filename,region_shape_attributes"),
    "Labelbox NDJSON": ("a.ndjson", {"data_row": {"id": "1"}, "projects": {}}),
    "Scalabel or BDD100K JSON": ("a.json", [{"labels": [{"category": "car", "box2d": {"x1": 1}}]}]),
    "V7 Darwin JSON": ("a.json", {"dataset": {}, "annotations": [{"bounding_box": {"h": 1}}]}),
    "COCO with captions alone": ("a.json", {"images": [], "annotations": [{"caption": "a cone"}]}),
    "COCO results": ("a.json", [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2], "score": 0.5}]),
    "a manifest of SageMaker Ground Truth": ("output.manifest", {"source-ref": "s3://b/d00.jpg"}),
}


@pytest.mark.parametrize("name", UNREAD)
def test_j_formats_that_are_not_read_are_named_with_a_way_out(stage: ConvertStage, name: str) -> None:
    file, document = UNREAD[name]
    ended = convert(stage, merged(images(2), {f"export/{file}": json.dumps(document).encode()}))
    assert ended.reason is Reason.DATASET_MALFORMED
    assert f'"export/{file}" is {name}' in ended.message
    assert "which is not read: " in ended.message


KITTI = b"Car 0.00 0 -1.57 8.00 12.00 40.00 36.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
DOTA = b"8.0 12.0 40.0 12.0 40.0 36.0 8.0 36.0 cone 0\n"
OPEN_IMAGES = b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\nd00,xclick,/m/01g317,1,0.1,0.6,0.2,0.7\n"


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labels/d00.txt", KITTI, '"labels/d00.txt" has labels of KITTI, which are not read: convert it to COCO'),
        ("labels/d00.txt", b"Don't_Care" + KITTI[3:], "has labels of KITTI"),
        ("labelTxt/d00.txt", b"imagesource:GoogleEarth\ngsd:0.14\n" + DOTA, '"labelTxt/d00.txt" has labels of DOTA'),
        ("d00.txt", DOTA.replace(b".0", b""), '"d00.txt" has labels of DOTA'),
        ("cam/gt/gt.txt", b"1,1,8,12,32,24,1,1,1.0\n", '"cam/gt/gt.txt" has tracks of the MOT challenge'),
        (
            "train-annotations-bbox.csv",
            OPEN_IMAGES,
            '"train-annotations-bbox.csv" is Open Images CSV, which is not read',
        ),
        ("annotations.xml", b'<annotations><track id="0" label="cone"><box/></track></annotations>', "CVAT for video"),
        ("set.xml", b"<dataset><images><image file='d00.jpg'><box top='1'/></image></images></dataset>", "dlib"),
        ("train.csv", b"ImageID,Source,LabelName,Confidence,XMin,XMax\n", "Open Images CSV"),
        ("list.csv", b"picture;what\nd00.jpg;cone\n", 'has the columns "picture;what"; boxes need filename, class'),
        (
            "min.json",
            b'[{"image": "d00.jpg", "annotation_id": 2}]',
            '"min.json" has a layout that is not known: export as',
        ),
        ("coco.json", '{"images": []}'.encode("utf-16"), '"coco.json" is in UTF-16, as PowerShell writes files: save'),
        ("d00.xml", b"\xfe\xff" + "<annotation/>".encode("utf-16-be"), '"d00.xml" is in UTF-16'),
        ("in.zip", zip_bytes({"a.txt": b"b"}), 'it holds archives, as "in.zip": unpack it'),
        ("match.mp4", b"\0\0\0\x18ftypisom", "atoll frames"),
        ("notes.docx", b"PK", "3 pictures, none has a label file: export with the labels"),
    ],
)
def test_j_what_else_lies_beside_pictures(stage: ConvertStage, file: str, text: bytes, words: str) -> None:
    ended = convert(stage, merged(images(3), {file: text}))
    assert ended.reason is Reason.DATASET_MALFORMED
    assert words in ended.message


def test_j_no_known_format_lists_what_was_seen(stage: ConvertStage) -> None:
    files = {f"{number}.dat": b"x" for number in range(30)} | {"README": b"x", "a.pdf": b"%PDF", "._a.pdf": b"x"}
    ended = convert(stage, files)
    assert ended.reason is Reason.DATASET_MALFORMED
    assert "among 33 files (30 .dat, 1 without suffix, 1 .pdf)" in ended.message
    assert "looked for supervisely" in ended.message


def test_j_a_format_is_no_reason_to_name_another(stage: ConvertStage) -> None:
    """What stands beside labels that are read does not keep them from being read."""
    beside = {"old/x.manifest": json.dumps({"source-ref": "s3://b/d00.jpg"}).encode()}
    ended = convert(stage, merged(tfod_csv(4), beside))
    assert len(pictures_of(ended)) == 8
    assert formats(ended) == "tfod-csv"
