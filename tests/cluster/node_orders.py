"""What a test asks of the keeper of a running node: power cuts, and an API server that goes and comes back.

The keeper owns the processes, so a test leaves it a word in a file and a signal.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from enum import StrEnum

from cluster.controlplane import ControlPlane
from cluster.node_containerd import Containerd
from cluster.node_host import RUN_FOLDER, write_whole
from cluster.node_kubelet import NodeAgents
from cluster.processes import ProcessGroup
from support.polling import wait_until

ORDER_FILE = RUN_FOLDER / "order"
DONE_FILE = RUN_FOLDER / "order-done"
ORDER_SIGNAL = signal.SIGHUP
DEADLINE_SECONDS = 180


class NodeOrder(StrEnum):
    """`CUT_POWER` kills the kubelet and every container at once, and starts the kubelet: the API server stays, since on
    a robot it is another process of the same board. `CUT_BOARD` takes the API server with them and starts it first, as
    k3s does. `RESTART_WITHOUT_API` leaves it away."""

    CUT_POWER = "cut-power"
    CUT_BOARD = "cut-board"
    RESTART_WITHOUT_API = "restart-without-api"
    STOP_API = "stop-api"
    START_API = "start-api"


def give(order: NodeOrder, keeper_pid: int) -> float:
    """Returns once it is carried out: when that which comes back was started (seconds of 1970)."""
    DONE_FILE.unlink(missing_ok=True)
    write_whole(ORDER_FILE, order)
    os.kill(keeper_pid, ORDER_SIGNAL)
    text = wait_until(
        lambda: DONE_FILE.read_text(encoding="utf-8") if DONE_FILE.exists() else None,
        what=f"the keeper to carry out {order}",
        timeout_seconds=DEADLINE_SECONDS,
    )
    return float(text)


@dataclass(frozen=True)
class OrderedNode:
    """The keeper's side."""

    group: ProcessGroup
    containerd: Containerd
    agents: NodeAgents
    plane: ControlPlane

    def carry_out(self) -> None:
        """The order that lies in the file."""
        began = self._obey(NodeOrder(ORDER_FILE.read_text(encoding="utf-8")))
        write_whole(DONE_FILE, str(began))

    def _obey(self, order: NodeOrder) -> float:
        if order is NodeOrder.STOP_API:
            self.plane.stop_api_server()
        elif order is not NodeOrder.START_API:
            self._cut(with_api=order is not NodeOrder.CUT_POWER)
        began = time.time()
        if order in (NodeOrder.CUT_BOARD, NodeOrder.START_API):
            self.plane.start_api_server()
        if order not in (NodeOrder.STOP_API, NodeOrder.START_API):
            self.agents.start_kubelet()
        return began

    def _cut(self, *, with_api: bool) -> None:
        self.group.stop("kubelet", kill=True)
        if with_api:
            self.plane.stop_api_server()
        self.containerd.kill_all()
