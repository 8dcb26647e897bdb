"""Exports that no reader takes: each known by name, with the export to take instead or what to add."""

import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import NamedTuple

from atoll_contract.archive.extract import ARCHIVE_SUFFIXES, Member
from atoll_contract.archive.limits import is_litter, shown
from atoll_stages.convert.problems import counted
from atoll_stages.convert.readers.base import IMAGE_SUFFIXES, Archive
from atoll_stages.convert.readers.csv_dialect import csv_head
from atoll_stages.convert.readers.yolo import has_label_lines
from atoll_stages.convert.readers.yolo_names import has_class_names
from atoll_stages.convert.tfrecord import read_records

_HEAD = 2**16
# So many files of a kind are looked into.
_MAX_FILES = 20
_SHOWN_SUFFIXES = 8
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
_RECORD_SUFFIXES = (".tfrecord", ".tfrecords", ".record")
_CSV_COLUMNS = "filename, class, xmin, ymin, xmax and ymax"
_TO_COCO = "convert it to COCO or VOC"


class _UnreadFormat(NamedTuple):
    """A format that is not read: a file of it has one of the suffixes, and all of the texts."""

    name: str
    suffixes: tuple[str, ...]
    texts: tuple[bytes, ...]
    remedy: str


_JSON = (".json",)
_UNREAD = (
    _UnreadFormat(
        "VoTT JSON", (".json", ".vott"), (b'"regions"', b'"boundingBox"'), "export as Pascal VOC or CSV in VoTT"
    ),
    _UnreadFormat("Datumaro", _JSON, (b'"dm_format_version"',), "convert it: datum convert -f coco"),
    _UnreadFormat("Datumaro", _JSON, (b'"items"', b'"media_type"'), "convert it: datum convert -f coco"),
    _UnreadFormat("Datumaro", _JSON, (b'"items"', b'"label_id"'), "convert it: datum convert -f coco"),
    _UnreadFormat(
        "Label Studio's own JSON", _JSON, (b'"from_name"', b'"result"'), "export as COCO or YOLO with images"
    ),
    _UnreadFormat("VGG Image Annotator JSON", _JSON, (b'"shape_attributes"',), "export as COCO in VIA"),
    _UnreadFormat("VGG Image Annotator CSV", (".csv",), (b"region_shape_attributes",), "export as COCO in VIA"),
    _UnreadFormat("Edge Impulse", (".labels", ".json"), (b'"boundingBoxes"', b'"label"'), _TO_COCO),
    _UnreadFormat("Hugging Face's metadata", (".jsonl",), (b'"file_name"', b'"objects"'), _TO_COCO),
    _UnreadFormat("Labelbox NDJSON", (".json", ".ndjson"), (b'"data_row"', b'"projects"'), _TO_COCO),
    _UnreadFormat("Scalabel or BDD100K JSON", _JSON, (b'"box2d"', b'"category"'), _TO_COCO),
    _UnreadFormat("V7 Darwin JSON", _JSON, (b'"bounding_box"',), "export as COCO in V7"),
    _UnreadFormat("COCO with captions alone, and no boxes", _JSON, (b'"caption"', b'"images"'), "add instances_….json"),
    _UnreadFormat(
        "COCO results, without images and categories",
        _JSON,
        (b'"image_id"', b'"category_id"', b'"score"'),
        "export COCO annotations",
    ),
    _UnreadFormat(
        "a manifest of SageMaker Ground Truth",
        (".manifest", ".jsonl", ".json"),
        (b'"source-ref"',),
        f"{_TO_COCO}, and pack the pictures with it",
    ),
    _UnreadFormat(
        "CVAT for video",
        (".xml",),
        (b"<annotations", b"<track"),
        "export as CVAT for images 1.1 or COCO 1.0, with images",
    ),
    _UnreadFormat("dlib's imglab XML", (".xml",), (b"<dataset", b"<images", b"<box "), _TO_COCO),
    _UnreadFormat("Open Images CSV", (".csv",), (b"ImageID", b"LabelName", b"XMin"), _TO_COCO),
)
# One text file for each picture or video: its name, whole lines of it, and the file names it may have ("" for any).
_NUMBER = r"-?\d+(?:\.\d+)?"
_LABEL_TEXTS = (
    ("labels of KITTI", re.compile(rf"[^\W\d]\S*(?: {_NUMBER}){{14,15}}"), ""),
    ("labels of DOTA", re.compile(rf"(?:{_NUMBER} ){{8}}[^\W\d]\S* [012]"), ""),
    ("tracks of the MOT challenge", re.compile(rf"\d+,\d+(?:,{_NUMBER}){{4,8}}"), "gt.txt det.txt"),
)
_DOTA_HEADING = ("imagesource:", "gsd:")


def explain_unread(archive: Archive) -> str:
    """Says what an archive without labels of a known format seems to be, and what to do.

    Raises:
        DatasetError: it holds TFRecords that are damaged.
    """
    for explain in (_records, _by_text, _label_text, _yolo_without_names, _other_csv):
        if found := explain(archive):
            return found
    return _without_labels(archive)


def explain_no_images(archive: Archive) -> str:
    """Says why the labels of an archive have no images, where they have none because the export left them out."""
    inner = next((file for file in archive.members.with_suffix(".tar") if _is_in_blob(file)), None)
    if inner is not None:
        return (
            f"it is Supervisely's export in Blob format: its pictures are in {shown(inner.name)}, which is not read; "
            'export as ".json + images"'
        )
    if next(archive.files(*IMAGE_SUFFIXES), None) is None:
        return (
            'it holds labels without pictures: export with images (Supervisely: ".json + images"; CVAT: Save images; '
            "Label Studio: … with images), or pack the pictures with it"
        )
    return ""


def explain_unused(archive: Archive, file: Member) -> str:
    """Says what a text file lacks from which no reader took anything; empty where it has no labels of YOLO."""
    is_text = file.base.lower().endswith(".txt")
    if not is_text or not has_label_lines(archive, file) or has_class_names(archive):
        return ""
    return (
        "labels of YOLO, and no file has the class names: add classes.txt with one name a line, the first for number "
        "0, or data.yaml with names"
    )


def seen_files(archive: Archive) -> str:
    """Returns the suffixes of an archive's files and how often each is there, the most frequent first."""
    suffixes: Counter[str] = Counter()
    for member in archive.members:
        if not is_litter(member.name):
            suffixes[PurePosixPath(member.name).suffix.lower() or "without suffix"] += 1
    listed = [f"{count:,} {shown(suffix, 20)[1:-1]}" for suffix, count in suffixes.most_common(_SHOWN_SUFFIXES)]
    more = len(suffixes) - len(listed)
    return ", ".join([*listed, *([f"{more} more kinds"] if more else [])]) or "nothing but litter"


def _is_in_blob(file: Member) -> bool:
    return PurePosixPath(file.folder).name == "blob"


def _some(archive: Archive, *suffixes: str) -> Iterator[Member]:
    return islice((file for file in archive.files(*suffixes) if not is_litter(file.name)), _MAX_FILES)


def _records(archive: Archive) -> str:
    """Names TFRecord files, which are Atoll's own output."""
    for member in _some(archive, *_RECORD_SUFFIXES):
        with member.open() as file:
            count = sum(1 for _ in read_records(file, name=shown(member.name)))
        return (
            f"{shown(member.name)} holds {count} TFRecords, which Atoll writes but does not read; "
            "upload the pictures and labels they were made from"
        )
    return ""


def _by_text(archive: Archive) -> str:
    suffixes = {suffix for form in _UNREAD for suffix in form.suffixes}
    for file in _some(archive, *sorted(suffixes)):
        with file.open() as stream:
            head = stream.read(_HEAD)
        for form in _UNREAD:
            if file.name.lower().endswith(form.suffixes) and all(text in head for text in form.texts):
                return f"{shown(file.name)} is {form.name}, which is not read: {form.remedy}"
    return ""


def _label_text(archive: Archive) -> str:
    for file in _some(archive, ".txt"):
        with file.open() as stream:
            text = stream.read(_HEAD).decode("utf-8-sig", "replace")
        line = next((line.strip() for line in text.splitlines() if not line.startswith(_DOTA_HEADING)), "")
        for name, pattern, bases in _LABEL_TEXTS:
            if pattern.fullmatch(line) and (not bases or file.base in bases.split()):
                return f"{shown(file.name)} has {name}, which are not read: {_TO_COCO}"
    return ""


def _yolo_without_names(archive: Archive) -> str:
    for file in _some(archive, ".txt"):
        if found := explain_unused(archive, file):
            return f"{shown(file.name)} has {found}"
    return ""


def _other_csv(archive: Archive) -> str:
    for file in _some(archive, ".csv", ".tsv"):
        with file.open() as stream:
            heading = csv_head(stream.read(_HEAD)).partition("\n")[0].strip()
        return f"{shown(file.name)} has the columns {shown(heading)}; boxes need {_CSV_COLUMNS}"
    return ""


def _without_labels(archive: Archive) -> str:
    if (inner := list(_some(archive, *(f".{suffix.rpartition('.')[2]}" for suffix in ARCHIVE_SUFFIXES)))) != []:
        return f"it holds archives, as {shown(inner[0].name)}: unpack it, and give each of them alone"
    if next(_some(archive, *_VIDEO_SUFFIXES), None) is not None:
        return "it holds videos: take frames out of them with atoll frames, and label these"
    if (other := next(_some(archive, ".json", ".ndjson", ".xml"), None)) is not None:
        with other.open() as stream:
            start = stream.read(2)
        if start in (BOM_UTF16_LE, BOM_UTF16_BE):
            return f"{shown(other.name)} is in UTF-16, as PowerShell writes files: save it as UTF-8"
        return f"{shown(other.name)} has a layout that is not known: export as COCO, Pascal VOC or YOLO, with images"
    images = sum(1 for file in archive.files(*IMAGE_SUFFIXES) if not is_litter(file.name))
    if images:
        return f"{counted(images, 'picture')}, none has a label file: export with the labels, or label them first"
    return ""
