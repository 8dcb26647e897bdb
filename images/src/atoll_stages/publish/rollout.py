"""The control object of a release's roll-out, written before the channel names the release.

A device may read its keys and not list them, and some stores then answer "forbidden" for an object that is not there:
with the object, "running" is told from "cannot be read".
"""

from atoll_contract import keys
from atoll_contract.document import rfc3339, to_json
from atoll_contract.rollout import RolloutControl, RolloutState
from atoll_contract.store.base import Store
from atoll_stages.publish.versions import Claim


def begin_rollout(store: Store, claimed: Claim) -> None:
    """Puts the control object of a release that has a plan, unless there is one: an earlier attempt's may be halted."""
    manifest = claimed.manifest
    if manifest.rollout is None:
        return
    key = keys.rollout(manifest.namespace, manifest.model, manifest.version)
    if store.head(key) is None:
        store.put(key, to_json(RolloutControl(claimed.reference.sha256, RolloutState.RUNNING, rfc3339())))
