"""A store that reaches its server through a proxy of faults, and waits on a clock of the test."""

import random
from dataclasses import dataclass, field
from pathlib import Path

from atoll_contract.document import replace
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store_spec import StoreSpec
from support.faultproxy import FaultProxy

PART_BYTES = 5 * 2**20


@dataclass
class Clock:
    """Time that passes only by sleeping."""

    now: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def backoff(self) -> Backoff:
        return Backoff(sleep=self.sleep, clock=lambda: self.now, dice=random.Random(0).random)


@dataclass
class Bench:
    """`behind` is the spec of the store as seen through the proxy, `store` that store, `real` the server itself."""

    proxy: FaultProxy
    direct: StoreSpec
    clock: Clock
    folder: Path

    @property
    def behind(self) -> StoreSpec:
        return replace(self.direct, endpoint=self.proxy.endpoint)

    @property
    def real(self) -> S3Store:
        return S3Store(self.direct)

    def open(self, spec: StoreSpec | None = None) -> S3Store:
        return S3Store(spec or self.behind, backoff=self.clock.backoff(), part_bytes=PART_BYTES)
