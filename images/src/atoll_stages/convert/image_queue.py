"""Prepares the pictures of an archive while its annotations are read, and hands them on in the order of reading."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from atoll_stages.convert.example_store import ExampleStore, PendingExample
from atoll_stages.convert.image_pool import TASK_IMAGES
from atoll_stages.convert.prepared import ImageFacts, ImageFile, PreparedFile

# Called with the number of pictures that are prepared.
OnPrepared = Callable[[int], None]


class Preparer(Protocol):
    """What prepares files: `ImagePool`, or `ShardedImages`, which shares them with other processes."""

    @property
    def has_room(self) -> bool: ...

    @property
    def is_idle(self) -> bool: ...

    def submit(self, files: Sequence[ImageFile]) -> None: ...

    def collect(self, *, block: bool) -> list[PreparedFile]: ...


class ImageQueue:
    """The pictures of the archive number `source`. What waits for its turn is in the store, not in memory."""

    def __init__(self, store: ExampleStore, source: int, preparer: Preparer, on_prepared: OnPrepared) -> None:
        self._store, self._source, self._preparer = store, source, preparer
        self._on_prepared = on_prepared
        self._added = 0
        self._submitted = self._prepared = 0

    def added(self) -> None:
        """Told after each example that was added to the store, it begins to prepare some."""
        self._added += 1
        if self._added >= TASK_IMAGES:
            self._added = 0
            self._advance(block=False)

    def read(self) -> Iterator[tuple[PendingExample, ImageFacts]]:
        """Yields all examples of the archive with what became of their pictures; the caller completes or drops each."""
        handed_on = 0
        while True:
            self._advance(block=True)
            yield from self._store.prepared(self._source, after=handed_on, up_to=self._prepared)
            handed_on = self._prepared
            if self._preparer.is_idle:
                return

    def _advance(self, *, block: bool) -> None:
        """Submits what there is room for, and takes what is prepared; waits for one task at most if it may `block`."""
        self._submit()
        while found := self._preparer.collect(block=block):
            self._store.add_prepared(found)
            self._prepared = found[-1].id
            self._on_prepared(len(found))
            self._submit()
            block = False

    def _submit(self) -> None:
        while self._preparer.has_room:
            files = self._store.files(self._source, after=self._submitted, limit=TASK_IMAGES)
            if not files:
                return
            self._preparer.submit(files)
            self._submitted = files[-1].id
