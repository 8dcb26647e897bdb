"""The annotation formats that convert reads: the table of their readers, and the choice of one for an archive.

`base` says what a reader must do.
"""

from atoll_contract.archive.limits import shown
from atoll_contract.errors import DatasetError, Reason
from atoll_contract.stage import DatasetFormat
from atoll_stages.convert.readers.base import Archive, Reader
from atoll_stages.convert.readers.coco import CocoReader
from atoll_stages.convert.readers.cvat import CvatReader
from atoll_stages.convert.readers.supervisely import SuperviselyReader
from atoll_stages.convert.readers.tfod_csv import TfodCsvReader
from atoll_stages.convert.readers.voc import VocReader
from atoll_stages.convert.readers.yolo import YoloReader
from atoll_stages.convert.tfrecord import read_records

# Formats are tried in this order, so the more specific ones come first.
READERS: tuple[Reader, ...] = (
    SuperviselyReader(),
    TfodCsvReader(),
    CocoReader(),
    CvatReader(),
    VocReader(),
    YoloReader(),
)


def find_reader(archive: Archive, requested: DatasetFormat) -> Reader:
    """Returns the reader of the requested format; for `AUTO`, the first that detects its format.

    Raises:
        DatasetError: DatasetMalformed, the archive is not of the requested format, or of none that is known.
    """
    candidates = [reader for reader in READERS if requested in (DatasetFormat.AUTO, reader.format)]
    for reader in candidates:
        if reader.detects(archive):
            return reader
    _refuse_records(archive)
    layouts = "; ".join(f"{reader.format}: {reader.layout}" for reader in candidates)
    raise DatasetError(
        Reason.DATASET_MALFORMED,
        f"{archive.name}: no labels of a known format among {len(archive.members)} files; looked for {layouts}",
    )


def _refuse_records(archive: Archive) -> None:
    """Raises where the archive holds TFRecord files, which are Atoll's output; says first if they are damaged."""
    for member in archive.members.with_suffix(".tfrecord", ".tfrecords", ".record"):
        with member.path.open("rb") as file:
            count = sum(1 for _ in read_records(file, name=shown(member.name)))
        raise DatasetError(
            Reason.DATASET_MALFORMED,
            f"{archive.name}: {shown(member.name)} holds {count} TFRecords, which Atoll writes but does not read; "
            "upload the pictures and labels they were made from",
        )
