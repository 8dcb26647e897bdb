"""Any bytes at all: an archive, or one clear refusal; never another exception, never a file outside."""

import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from atoll_contract.archive.extract import extract
from atoll_contract.convert_spec import DatasetLimits
from atoll_contract.errors import DatasetError, Reason
from support.archives import packed, supervisely

LIMITS = DatasetLimits(expanded_bytes=2**22)
GOOD = {suffix: packed(supervisely(2), suffix) for suffix in (".tar", ".tar.gz", ".zip")}
REFUSALS = (Reason.DATASET_UNSAFE, Reason.DATASET_MALFORMED, Reason.DATASET_TOO_LARGE)


def survives(data: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        fence = Path(name)
        source = fence / f"data{suffix}"
        source.write_bytes(data)
        refusal = None
        try:
            extract(source, fence / "out", LIMITS).close()
        except DatasetError as error:
            refusal = error
        assert refusal is None or (refusal.reason in REFUSALS and refusal.message)
        assert {path.name for path in fence.iterdir()} <= {source.name, "out"}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_flipped_bytes(suffix: str, data: st.DataObject) -> None:
    good = bytearray(GOOD[suffix])
    for _ in range(data.draw(st.integers(1, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    survives(bytes(good), suffix)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.floats(0, 1))
def test_cut_off_anywhere(suffix: str, share: float) -> None:
    survives(GOOD[suffix][: int(share * len(GOOD[suffix]))], suffix)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([".tar", ".tar.gz", ".zip"]), st.binary(max_size=3000))
@example(".zip", b"PK\x05\x06" + b"\xff" * 18)
@example(".tar", b"\xff" * 512)
def test_any_bytes(suffix: str, data: bytes) -> None:
    survives(data, suffix)
