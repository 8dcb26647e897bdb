"""TensorBoard's event file, written without the tensorboard package.

The file is a TFRecord of `Event` messages; its name must hold `tfevents`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any


class EventFile:
    """Scalars by step, appended to `path`. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        import tensorflow as tf

        self.path = path
        self._writer = tf.io.TFRecordWriter(str(path))
        self._put(file_version="brain.Event:2")

    def _put(self, **fields: Any) -> None:
        import tensorflow as tf

        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        self._writer.write(event.SerializeToString())

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        """Write the values and flush them."""
        import tensorflow as tf

        rows = [tf.compat.v1.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._put(step=step, summary=tf.compat.v1.Summary(value=rows))
        self._writer.flush()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
