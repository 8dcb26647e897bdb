"""The Helm values that a build writes name the images as they were built or pushed."""

from pathlib import Path

import pytest
import yaml

from engine import EngineError
from values import ImageReference, write_values

DIGEST = "sha256:" + "a" * 64


def test_local_images_are_named_by_tag(tmp_path: Path) -> None:
    path = tmp_path / "out" / "values.yaml"
    write_values(path, {"operator": ImageReference("", "atoll/operator", "0.1.0")})
    expected = {"registry": "localhost", "repository": "atoll/operator", "tag": "0.1.0", "digest": ""}
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == {"image": expected, "images": {}}


def test_pushed_images_are_named_by_digest(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    reference = ImageReference("registry.example", "atoll/train-gpu", "0.1.0").with_digest(DIGEST)
    write_values(path, {"train-gpu": reference, "edge": reference})
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["images"]["trainGPU"]["digest"] == DIGEST
    assert "edge" not in document["images"]


def test_images_of_earlier_builds_stay_named(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    first = {name: ImageReference("", f"atoll/{name}", "1") for name in ("operator", "convert", "train")}
    assert write_values(path, first) == []
    assert write_values(path, {"train-gpu": ImageReference("", "atoll/train-gpu", "2")}) == [
        "operator",
        "convert",
        "train",
    ]
    assert write_values(path, {"train": ImageReference("", "atoll/train", "2")}) == ["operator", "convert", "trainGPU"]
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert document["image"]["tag"] == "1"
    tags = {name: image["tag"] for name, image in document["images"].items()}
    assert tags == {"convert": "1", "train": "2", "trainGPU": "2"}


def test_the_weights_of_the_train_image_are_named_as_long_as_it_has_them(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    train, other = (
        {"train": ImageReference("", "atoll/train", "1")},
        {"convert": ImageReference("", "atoll/convert", "1")},
    )

    def written() -> str | None:
        width: str | None = yaml.safe_load(path.read_text(encoding="utf-8")).get("imagenetWeights")
        return width

    write_values(path, train, imagenet_width="1.0")
    assert written() == "1.0"
    write_values(path, other)
    assert written() == "1.0"
    write_values(path, train)
    assert written() is None


def test_values_that_somebody_wrote_into_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("image: {registry: mine}\n", encoding="utf-8")
    with pytest.raises(EngineError, match="keep your own values in another file"):
        write_values(path, {"operator": ImageReference("", "atoll/operator", "1")})
    assert path.read_text(encoding="utf-8") == "image: {registry: mine}\n"


def test_a_reference_reads_as_engines_write_it() -> None:
    assert str(ImageReference("", "atoll/convert", "1")) == "localhost/atoll/convert:1"
    assert str(ImageReference("registry.example:5000", "atoll/convert", "1")) == "registry.example:5000/atoll/convert:1"
