"""A whole agent for tests: free ports, a drawn scene for the camera, a folder for the bucket."""

import functools
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_contract.store.directory import DirStore
from atoll_contract.store_spec import StoreSpec, StoreType
from atoll_edge.agent import Agent
from atoll_edge.config import (
    CameraConfig,
    DetectionConfig,
    EdgeConfig,
    HarvestConfig,
    HttpConfig,
    ModelConfig,
    StreamConfig,
    Verify,
)
from atoll_edge.demo import free_ports
from atoll_edge.models.manager import ReleaseManager
from atoll_edge.robot.seed_topics import Compatibility
from support.edge_release import MODEL, NAMESPACE
from support.polling import wait_until

DEVICE = "pi-front"


@dataclass
class RunningAgent:
    """An agent that is started at once; `close` stops it."""

    folder: Path
    nt_port: int
    verify: Verify = Verify.DIGEST_ONLY
    detector: Any = None
    token_file: str | None = None
    harvest: HarvestConfig | None = None
    key_files: tuple[str, ...] = ()
    device: str = DEVICE
    camera: str = "front"
    compatibility: Compatibility = Compatibility.AXON

    def __post_init__(self) -> None:
        raw, annotated, http = free_ports(3)
        store = StoreSpec(StoreType.DIRECTORY, path=str(self.folder / "bucket"))
        self.config = EdgeConfig(
            device=self.device,
            nt_server=f"127.0.0.1:{self.nt_port}",
            state_dir=str(self.folder / "device"),
            camera=CameraConfig(name=self.camera, path="synthetic", fps=20),
            detection=DetectionConfig(compatibility=self.compatibility),
            streams=StreamConfig(raw_port=raw, annotated_port=annotated),
            http=HttpConfig(port=http, token_file=self.token_file),
            model=ModelConfig(
                NAMESPACE,
                MODEL,
                store,
                verify=self.verify,
                public_key_files=self.key_files,
                poll_seconds=0.5,
                report_seconds=1.0,
            ),
            harvest=self.harvest or HarvestConfig(),
        )
        self.agent = Agent(self.config, functools.partial(ReleaseManager, self.config), detector=self.detector)
        self.agent.start()

    @property
    def bucket(self) -> DirStore:
        return DirStore(self.folder / "bucket")

    def get(self, path: str) -> tuple[int, bytes]:
        """Gets a path of the status server; returns code and body."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.config.http.port}{path}")
        return self._answer(request)

    def post(self, path: str, token: str | None) -> tuple[int, bytes]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"http://127.0.0.1:{self.config.http.port}{path}"
        return self._answer(urllib.request.Request(url, b"", headers))

    @staticmethod
    def _answer(request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def wait_for(self, state: str, sequence: int | None = None, *, seconds: float = 120) -> None:
        """Waits until the model has this state, and this sequence if one is given."""

        def reached() -> bool:
            model = self.agent.manager.model_status()
            return model.state == state and sequence in (None, model.sequence)

        wait_until(reached, what=f"state {state} of {sequence}", timeout_seconds=seconds)

    def close(self) -> None:
        self.agent.stop()
