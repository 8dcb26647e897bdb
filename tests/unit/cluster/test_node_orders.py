"""What the keeper of a test node does for each order, and in which sequence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cluster import node_orders
from cluster.node_orders import NodeOrder, OrderedNode


class Recorder:
    """Stands for every part of the node; notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def stop(self, name: str, *, kill: bool) -> None:
        self.calls.append(f"{'kill' if kill else 'stop'} {name}")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


@pytest.mark.parametrize(
    ("order", "calls"),
    [
        (NodeOrder.CUT_POWER, ["kill kubelet", "kill_all", "start_kubelet"]),
        (NodeOrder.CUT_BOARD, ["kill kubelet", "stop_api_server", "kill_all", "start_api_server", "start_kubelet"]),
        (NodeOrder.RESTART_WITHOUT_API, ["kill kubelet", "stop_api_server", "kill_all", "start_kubelet"]),
        (NodeOrder.STOP_API, ["stop_api_server"]),
        (NodeOrder.START_API, ["start_api_server"]),
    ],
)
def test_an_order_is_carried_out_and_answered(
    order: NodeOrder, calls: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_orders, "ORDER_FILE", tmp_path / "order")
    monkeypatch.setattr(node_orders, "DONE_FILE", tmp_path / "done")
    node: Any = Recorder()
    keeper = OrderedNode(group=node, containerd=node, agents=node, plane=node)
    # The signal reaches the keeper, which looks into the file.
    monkeypatch.setattr(os, "kill", lambda pid, number: keeper.carry_out())
    assert node_orders.give(order, keeper_pid=1) > 0
    assert node.calls == calls
