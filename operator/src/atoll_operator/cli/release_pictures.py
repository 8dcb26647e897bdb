"""The pictures behind a release: those it was evaluated on, and those it was trained on, as its run converted them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from atoll_contract import keys
from atoll_contract.codec import DecodeError, from_json
from atoll_contract.comparison import PictureSource
from atoll_contract.dataset import DATASET_NAME, LABEL_MAP_NAME, Dataset
from atoll_contract.errors import IntegrityError, SpecError
from atoll_contract.result import Artifact
from atoll_contract.store import ObjectNotFound
from atoll_operator.cli.bucket import fetched
from atoll_operator.cli.release_files import PublishedRelease

ADVICE = "run the TrainingRun again, which converts them anew, or give labelled pictures with --data ARCHIVE"


class ReleasePictures:
    """The converted dataset of a release's run, fetched into `folder` as far as it is asked for."""

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

    def evaluation(self, names: str) -> PictureSource:
        """The pictures that the run reports its figures on.

        Raises:
            SpecError: the store does not have them any more.
        """
        part = self._dataset.evaluation_split
        labels = self._fetch(self._dataset.label_map, LABEL_MAP_NAME)
        shards = self._part(part)
        return PictureSource(f"evaluation pictures of {names} ({part})", shards=shards, labels=str(labels))

    def training(self) -> tuple[str, ...] | None:
        """The shards that the model was trained on; None where the store does not have them, or never did."""
        try:
            return self._part("train")
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

    def _part(self, name: str) -> tuple[str, ...]:
        return tuple(str(self._fetch(shard, f"{shard.sha256}.tfrecord")) for shard in self._dataset.splits[name].shards)

    def _fetch(self, artifact: Artifact, name: str) -> Path:
        path = self._folder / self.digest / name
        if path.exists():
            return path
        try:
            store = self._release.origin.store
            return fetched(store, artifact.key, path, sha256=artifact.sha256, size=artifact.size)
        except ObjectNotFound:
            raise self._gone(artifact.key) from None

    def _gone(self, key: str) -> SpecError:
        url = self._release.origin.store.url
        return SpecError(f"the pictures of {self.name} are gone: {url} has no {key}; {ADVICE}")
