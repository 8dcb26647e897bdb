"""Several interpreters of one model in this process: what works on files wants throughput, not the first answer."""

import queue
from pathlib import Path
from typing import TYPE_CHECKING

from atoll_edge.detector.backends import LoadedModel, loader
from atoll_edge.detector.outputs import Reading

if TYPE_CHECKING:
    from numpy import uint8
    from numpy.typing import NDArray


class DetectorPool:
    """`workers` interpreters on the CPU, one thread each; as many threads may call `detect` at once.

    Raises:
        LoadError: LiteRT cannot load the file, or it is no detector.
    """

    def __init__(self, path: Path, *, workers: int) -> None:
        self.workers = workers
        self._idle: queue.SimpleQueue[LoadedModel] = queue.SimpleQueue()
        loads = loader()
        for _ in range(workers):
            self._idle.put(loads.load(path, threads=1))

    def detect(self, picture: "NDArray[uint8]") -> Reading:
        """The detections in a BGR picture [h, w, 3].

        Raises:
            LoadError: the outputs are not a detector's.
        """
        import cv2
        from PIL import Image

        rgb = Image.fromarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        model = self._idle.get()
        try:
            return model.detect(rgb)
        finally:
            self._idle.put(model)
