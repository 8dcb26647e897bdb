"""The annotation formats that convert reads: the table of their readers, and the choice of those for an archive.

`base` says what a reader must do.
"""

from atoll_contract.convert_spec import DatasetFormat
from atoll_contract.errors import DatasetError, Reason
from atoll_stages.convert.readers.base import Archive, Reader
from atoll_stages.convert.readers.coco import CocoReader
from atoll_stages.convert.readers.createml import CreatemlReader
from atoll_stages.convert.readers.cvat import CvatReader
from atoll_stages.convert.readers.labelme import LabelmeReader
from atoll_stages.convert.readers.supervisely import SuperviselyReader
from atoll_stages.convert.readers.tfod_csv import TfodCsvReader
from atoll_stages.convert.readers.unread import explain_unread, seen_files
from atoll_stages.convert.readers.voc import VocReader
from atoll_stages.convert.readers.yolo import YoloReader

# Formats are tried in this order, so the more specific ones come first.
READERS: tuple[Reader, ...] = (
    SuperviselyReader(),
    TfodCsvReader(),
    CocoReader(),
    LabelmeReader(),
    CreatemlReader(),
    CvatReader(),
    VocReader(),
    YoloReader(),
)


def find_readers(archive: Archive, requested: DatasetFormat) -> tuple[Reader, ...]:
    """Returns the reader of the requested format; for `AUTO`, all that detect their format.

    Raises:
        DatasetError: DatasetMalformed, the archive is not of the requested format, or of none that is known.
    """
    detected = tuple(reader for reader in READERS if reader.detects(archive))
    found = tuple(reader for reader in detected if requested in (DatasetFormat.AUTO, reader.format))
    if not found:
        raise _no_reader(archive, requested, detected)
    return found


def _no_reader(archive: Archive, requested: DatasetFormat, detected: tuple[Reader, ...]) -> DatasetError:
    candidates = [reader for reader in READERS if requested in (DatasetFormat.AUTO, reader.format)]
    layouts = "; ".join(f"{reader.format}: {reader.layout}" for reader in candidates)
    if detected:
        what = f"it looks like {' and '.join(reader.format for reader in detected)}, not {requested}"
    else:
        what = explain_unread(archive)
    return DatasetError(
        Reason.DATASET_MALFORMED,
        f"{archive.name}: no labels of a known format among {len(archive.members)} files ({seen_files(archive)})"
        f"{f'; {what}' if what else ''}; looked for {layouts}",
    )
