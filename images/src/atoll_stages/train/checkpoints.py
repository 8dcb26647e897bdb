"""Checkpoints in the store, shared by the attempts of a run.

A checkpoint is one object that holds every variable, so it is there whole or not at all. Its name carries the step.
The best weights are a separate object, written before the checkpoint that names them. A run that resumes from an
older checkpoint computes the same weights again and overwrites them with equal bytes.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import tensorflow as tf

from atoll_contract.document import DecodeError, from_json, to_json
from atoll_contract.store.base import Store, StoreForbidden
from atoll_stages.train.history import Progression, Snapshot

logger = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
_META = "__meta__"
_CHECKPOINT = re.compile(r"step-(\d{8})\.npz")


def state_digest(variables: Sequence[tf.Variable]) -> str:
    """Returns the sha256 of all values. Workers of one training have the same after the same step."""
    digest = sha256()
    for variable in variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class CheckpointStore:
    """The folder `prefix` of a store. Checkpoints with another `fingerprint` are of other settings or data and are
    passed over."""

    store: Store
    prefix: str
    fingerprint: str

    def key(self, step: int) -> str:
        return f"{self.prefix}step-{step:08d}.npz"

    def weights_key(self, step: int) -> str:
        return f"{self.prefix}best-{step:08d}.weights.h5"

    def steps(self) -> list[int]:
        """Returns the steps of the stored checkpoints, ascending."""
        names = (info.key.removeprefix(self.prefix) for info in self.store.list(self.prefix))
        return sorted(int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name)))

    def save(self, variables: Sequence[tf.Variable], progression: Progression, *, work: Path) -> None:
        """Writes the state after `progression.step` steps, and removes all but the KEPT_CHECKPOINTS newest."""
        path = work / "checkpoint.npz"
        arrays: dict[str, Any] = {f"v{i:05d}": v.numpy() for i, v in enumerate(variables)}
        meta = to_json(Snapshot(self.fingerprint, progression))
        arrays[_META] = np.frombuffer(meta, np.uint8)
        with path.open("wb") as file:
            np.savez(file, **arrays)
        self.store.upload(self.key(progression.step), path)
        path.unlink()
        self._remove_old()

    def _remove_old(self) -> None:
        try:
            for step in self.steps()[:-KEPT_CHECKPOINTS]:
                self.store.delete(self.key(step))
        except StoreForbidden as error:
            # A store that keeps everything (object lock) costs space, but must not end the training.
            logger.warning("older checkpoints stay behind: %s", error)

    def restore(self, variables: Sequence[tf.Variable], *, work: Path) -> Progression | None:
        """Sets the variables from the newest readable checkpoint; returns None where none has this fingerprint."""
        for step in reversed(self.steps()):
            path = work / "restored.npz"
            self.store.download(self.key(step), path)
            progression = self._load(path, variables)
            path.unlink()
            if progression is not None:
                return progression
        return None

    def newest_fingerprint(self, *, work: Path) -> str | None:
        """Returns whose the newest checkpoint is that can be read; None where there is none."""
        for step in reversed(self.steps()):
            path = work / "inspected.npz"
            self.store.download(self.key(step), path)
            try:
                with np.load(path) as file:
                    return from_json(Snapshot, file[_META].tobytes()).fingerprint
            except (OSError, ValueError, KeyError, DecodeError, BadZipFile) as error:
                logger.warning("a checkpoint cannot be read and is passed over: %s", error)
            finally:
                path.unlink()
        return None

    def _load(self, path: Path, variables: Sequence[tf.Variable]) -> Progression | None:
        try:
            with np.load(io.BytesIO(path.read_bytes())) as file:
                snapshot = from_json(Snapshot, file[_META].tobytes())
                arrays = [file[f"v{i:05d}"] for i in range(len(variables))]
        except (OSError, ValueError, KeyError, DecodeError) as error:
            logger.warning("a checkpoint cannot be read and is passed over: %s", error)
            return None
        fits = all(tuple(v.shape) == a.shape for v, a in zip(variables, arrays, strict=True))
        if snapshot.fingerprint != self.fingerprint or not fits:
            logger.warning("a checkpoint is of other settings and is passed over")
            return None
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        return snapshot.progression
