"""What the page finds in archives: galleries with boxes, by class, bounded, and kept."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from atoll_cli.ui.galleries import NO_BOX, PAGE_IMAGES
from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec
from atoll_contract.document import from_json
from atoll_contract.tool_reports import GALLERY_FILE, Gallery
from atoll_stages.convert import gallery
from atoll_stages.convert.lint import lint
from support import archives
from support.local_page import LocalPage

pytestmark = pytest.mark.timeout(300)


def packed(count: int = 30, *, empty: int = 0) -> bytes:
    files = archives.supervisely(count, labels=("coral", "algae"))
    for number in range(empty):
        files[f"game/ds0/ann/frame_{number:05d}.jpg.json"] = archives.annotation([])
    return archives.tar_bytes(files)


def test_the_images_of_an_archive_are_shown_with_their_boxes_by_class(page: LocalPage) -> None:
    page.run_task("/api/archives?name=reef.tar", packed(30, empty=2))
    found = page.request("/api/archives/reef.tar/images?class=coral")
    assert len(found["images"]) == PAGE_IMAGES
    first = found["images"][0]
    data = base64.b64decode(first["data"].removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (first["width"], first["height"])
    width, height = archives.SIZE
    label, *edges = first["boxes"][0]
    assert label == "coral"
    assert edges == pytest.approx([4 / width, 5 / height, 34 / width, 40 / height], abs=0.02)
    assert page.request(f"/api/archives/reef.tar/images?class={NO_BOX}")["total"] == 2
    assert page.request("/api/archives/reef.tar/images?class=nothing") == {"total": 0, "images": []}
    rest = page.request(f"/api/archives/reef.tar/images?class=coral&start={PAGE_IMAGES}")
    assert len(rest["images"]) == found["total"] - PAGE_IMAGES


def test_an_archive_of_the_command_line_is_inspected_on_request_and_stays_so(page: LocalPage) -> None:
    path = page.store / keys.dataset("local", "reef.tar")
    path.parent.mkdir(parents=True)
    path.write_bytes(packed(6))
    assert "lint" not in page.request("/api/state")["archives"][0]
    assert "not inspected yet" in page.request("/api/archives/reef.tar/images")["error"]
    found = page.run_task("/api/archives/reef.tar/inspection", {})
    assert found["lint"]["pictures"] == 6
    with LocalPage(page.folder) as later:
        assert later.request("/api/state")["archives"][0]["lint"] == found["lint"]
    # Other bytes under the same name are another archive.
    path.write_bytes(packed(8))
    assert "lint" not in page.request("/api/state")["archives"][0]
    page.run_task("/api/archives/reef.tar/inspection", {})
    galleries = page.store / ".atoll/ui/galleries"
    assert len(list(galleries.glob("*/*"))) == 1
    assert list(galleries.glob("new-*")) == []


@pytest.mark.parametrize("name", ["none.tar", "..%2Fx.tar", "x.txt"])
def test_images_of_no_archive_are_refused(page: LocalPage, name: str) -> None:
    assert page.request(f"/api/archives/{name}/images")["error"]


def test_a_gallery_is_bounded_and_every_class_has_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MAX_IMAGES", 7)
    files = archives.supervisely(20, labels=("coral",))
    files |= archives.supervisely(2, labels=("coral", "rare"), project="other", first=500)
    path = tmp_path / "reef.tar"
    path.write_bytes(archives.tar_bytes(files))
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        assert lint([path], spec=ConvertSpec(sources=()), work=folder / "work", gallery=folder).ok
    found = [from_json(Gallery, (folder / GALLERY_FILE).read_bytes()) for folder in folders]
    assert found[0] == found[1]
    assert len(found[0].images) == len(list(folders[0].glob("*.jpg"))) == 7
    assert sum(any(box.label == "rare" for box in item.boxes) for item in found[0].images) == 2
