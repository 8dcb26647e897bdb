"""Compares two models for `atoll compare`: fetches them and the labelled images, and starts the comparison."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from atoll_cli.options import EngineOptions
from atoll_cli.releases import PublishedRelease, find_release
from atoll_cli.store_access import explain_store_errors, fetch
from atoll_cli.tool import run_tool
from atoll_contract import keys
from atoll_contract.dataset import DATASET_NAME, LABEL_MAP_NAME, Dataset
from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.stage_result import Artifact
from atoll_contract.store.base import ObjectNotFound
from atoll_contract.tool_reports import ComparisonJob, Contender, ImageSource

MODULE = "atoll_stages.compare"
ADVICE = "run the TrainingRun again, which converts them anew, or give labelled pictures with --data ARCHIVE"


def compare(models: tuple[str, str], archives: Sequence[Path], engine: EngineOptions, page: Path) -> dict[str, Any]:
    """Run the old and the new model on the same images, write the HTML `page` and return the figures.

    A model is a release, or a file or folder. The images are those of the `archives`, or else those on which the
    releases' own runs were evaluated.

    Raises:
        SpecError: there is no such model, or there are no images for it.
        AtollError, ClusterError: something cannot be fetched, or the comparison failed.
    """
    with tempfile.TemporaryDirectory(prefix="atoll-compare-") as name, explain_store_errors(endpoint=engine.endpoint):
        folder = Path(name)
        releases = [find_release(model, engine) for model in models]
        file = folder / "job.json"
        file.write_bytes(to_json(_job(models, releases, archives, folder, page.resolve())))
        return run_tool(MODULE, [str(file)], title="loading the models")


def short_name(model: str) -> str:
    """The name of a model in tables and in the page's name."""
    return Path(model).name.removesuffix(".tar.gz").removesuffix(".tflite") or model


def _job(
    models: tuple[str, str],
    releases: list[PublishedRelease | None],
    archives: Sequence[Path],
    folder: Path,
    page: Path,
) -> ComparisonJob:
    datasets = [ReleaseDataset(item, folder / "pictures") if item else None for item in releases]
    sources = [ImageSource(path.name, archive=str(path.resolve())) for path in archives]
    if not sources:
        sources = _evaluation_sources(datasets)
    # The splits of a dataset are disjoint: if there is only one dataset, its training split need not be fetched.
    one_dataset = not archives and len(sources) == 1
    contenders = []
    for number, (name, release, dataset) in enumerate(zip(models, releases, datasets, strict=True)):
        path = release.fetch_model(folder / f"model-{number}") if release else Path(name).resolve()
        trained: tuple[str, ...] | None = None
        if dataset is not None:
            trained = () if one_dataset else dataset.training_shards()
        contenders.append(Contender(short_name(name), str(path), trained))
    return ComparisonJob(contenders[0], contenders[1], tuple(sources), str(page))


def _evaluation_sources(datasets: Sequence[ReleaseDataset | None]) -> list[ImageSource]:
    """The evaluation images of each release; once if both have the same."""
    by_digest: dict[str, list[ReleaseDataset]] = {}
    for item in datasets:
        if item is not None:
            by_digest.setdefault(item.digest, []).append(item)
    if not by_digest:
        raise SpecError("files name no evaluation pictures, as releases do; give labelled pictures with --data ARCHIVE")
    return [
        items[0].evaluation_source(" and ".join(dict.fromkeys(item.name for item in items)))
        for items in by_digest.values()
    ]


class ReleaseDataset:
    """The converted dataset of a release's run; its files are fetched into `folder` when they are needed."""

    def __init__(self, release: PublishedRelease, folder: Path) -> None:
        self._release = release
        self._folder = folder

    @property
    def name(self) -> str:
        return self._release.manifest.release

    @property
    def digest(self) -> str:
        """The digest of the converted dataset.

        Raises:
            SpecError: the manifest does not name it.
        """
        found = self._release.manifest.provenance.get("datasetDigest")
        if not found:
            raise SpecError(f"the manifest of {self.name} does not name its dataset; {ADVICE}")
        return found

    def evaluation_source(self, names: str) -> ImageSource:
        """The images on which the run's figures were measured; `names` are the releases that share them.

        Raises:
            SpecError: the store does not have them any more.
        """
        split = self._dataset.evaluation_split
        labels = self._fetch(self._dataset.label_map, LABEL_MAP_NAME)
        shards = self._shards(split)
        return ImageSource(f"evaluation pictures of {names} ({split})", shards=shards, labels=str(labels))

    def training_shards(self) -> tuple[str, ...] | None:
        """The shards that the model was trained on; None if the store does not have them (any more)."""
        try:
            return self._shards("train")
        except SpecError:
            return None

    @cached_property
    def _dataset(self) -> Dataset:
        key = keys.cached_dataset(self._release.manifest.run.namespace, self.digest) + DATASET_NAME
        store = self._release.origin.store
        try:
            return from_json(Dataset, store.get(key))
        except ObjectNotFound:
            raise self._gone(key) from None
        except DecodeError as error:
            raise IntegrityError(f"{store.url}: {key}: {error}") from None

    def _shards(self, split: str) -> tuple[str, ...]:
        shards = self._dataset.splits[split].shards
        return tuple(str(self._fetch(shard, f"{shard.sha256}.tfrecord")) for shard in shards)

    def _fetch(self, artifact: Artifact, name: str) -> Path:
        path = self._folder / self.digest / name
        if path.exists():
            return path
        try:
            store = self._release.origin.store
            return fetch(store, artifact.key, path, sha256=artifact.sha256, size=artifact.size)
        except ObjectNotFound:
            raise self._gone(artifact.key) from None

    def _gone(self, key: str) -> SpecError:
        url = self._release.origin.store.url
        return SpecError(f"the pictures of {self.name} are gone: {url} has no {key}; {ADVICE}")
