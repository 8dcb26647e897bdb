"""Which reader reads an archive."""

from collections.abc import Callable
from dataclasses import dataclass

from atoll_contract.archive_names import shown
from atoll_contract.errors import DatasetError
from atoll_contract.reasons import Reason
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.example import Archive, Reading
from atoll_stages.convert.readers import coco, supervisely, tfod_csv, voc, yolo
from atoll_stages.convert.tfrecord import read_records


@dataclass(frozen=True)
class Reader:
    """A format: how to tell it, how to read it, and what an archive of it has, for messages."""

    detects: Callable[[Archive], bool]
    read: Callable[[Archive], Reading]
    has: str


# In this order: the first that an archive shows is taken.
READERS = {
    DatasetFormat.SUPERVISELY: Reader(supervisely.detects, supervisely.read, "<dataset>/ann/<picture>.json"),
    DatasetFormat.TFOD_CSV: Reader(tfod_csv.detects, tfod_csv.read, "_annotations.csv"),
    DatasetFormat.COCO: Reader(coco.detects, coco.read, "a .json with images, annotations and categories"),
    DatasetFormat.VOC: Reader(voc.detects, voc.read, "an .xml for each picture"),
    DatasetFormat.YOLO: Reader(
        yolo.detects, yolo.read, "data.yaml, classes.txt or obj.names, and a .txt for each picture"
    ),
}


def reader_of(archive: Archive, asked: DatasetFormat) -> tuple[DatasetFormat, Reader]:
    """The format asked for, or the one that the archive shows.

    Raises:
        DatasetError: DatasetMalformed, it shows none, or not the one asked for.
    """
    for name, reader in READERS.items():
        if asked in (DatasetFormat.AUTO, name) and reader.detects(archive):
            return name, reader
    _explain_records(archive)
    looked = "; ".join(
        f"{name}: {reader.has}" for name, reader in READERS.items() if asked in (DatasetFormat.AUTO, name)
    )
    raise DatasetError(
        Reason.DATASET_MALFORMED,
        f"{archive.name}: no labels of a known format among {len(archive.members)} files; looked for {looked}",
    )


def _explain_records(archive: Archive) -> None:
    """TFRecord files are Atoll's output. Who uploads them is told so, and whether they are whole."""
    for member in archive.members.with_suffix(".tfrecord", ".tfrecords", ".record"):
        with member.path.open("rb") as file:
            count = sum(1 for _ in read_records(file, name=shown(member.name)))
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"{archive.name}: {shown(member.name)} holds {count} TFRecords, which Atoll writes but does not read; "
            "upload the pictures and labels they were made from",
        )
