"""Removing what a finished run no longer needs."""

import logging

from atoll_contract.keys import checkpoints_prefix
from atoll_contract.stage import Stage
from atoll_contract.store import StoreError
from atoll_stages.context import StageContext

logger = logging.getLogger(__name__)


def remove_surplus_checkpoints(context: StageContext) -> int:
    """Delete all checkpoints of this run but what train reported; how many went. A store that refuses is no failure."""
    kept = {artifact.key for artifact in context.input.upstream.get(Stage.TRAIN, ())}
    if not kept:
        return 0
    removed = 0
    try:
        for info in list(context.store.list(checkpoints_prefix(context.input.run))):
            if info.key not in kept:
                context.store.delete(info.key)
                removed += 1
    except StoreError as error:
        logger.warning("checkpoints stay behind for `atoll prune`: %s", error)
    return removed
