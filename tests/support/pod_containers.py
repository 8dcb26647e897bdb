"""The containers of a stage pod, in the order in which they run."""

from __future__ import annotations

from dataclasses import dataclass

from atoll_contract.stage import StageInput
from atoll_operator.kube.transport import Body


@dataclass(frozen=True)
class StageContainer:
    """A container of a pod, and in which list of the pod's status its state stands."""

    statuses: str
    name: str
    given: StageInput


def containers_of(pod: Body) -> list[StageContainer]:
    """The containers in the order in which they run."""
    found = []
    for kind, statuses in (("initContainers", "initContainerStatuses"), ("containers", "containerStatuses")):
        for container in pod["spec"].get(kind) or []:
            variables = {item["name"]: item.get("value", "").replace("$$", "$") for item in container["env"]}
            found.append(StageContainer(statuses, container["name"], StageInput.from_env(variables)))
    return found


def statuses_of(pod: Body) -> list[Body]:
    status = pod["status"]
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]
