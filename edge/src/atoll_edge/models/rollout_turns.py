"""When this device may take a release that comes in steps.

The plan is in the verified manifest, and its clock starts at the manifest's signed `created_at`. The control object can
only delay. Everything else in the bucket is a hint.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from atoll_contract import keys
from atoll_contract.document import DecodeError, from_json
from atoll_contract.errors import AtollError, Reason
from atoll_contract.release import Manifest
from atoll_contract.rollout import (
    PROMOTION_TYPE,
    RolloutControl,
    RolloutPromotion,
    RolloutState,
    RolloutTurn,
    Turn,
    share_of,
    turn_of,
    wave_of,
)
from atoll_contract.signing import verified_payload
from atoll_contract.store.base import ObjectNotFound, Store, StoreForbidden
from atoll_edge.config import Verify
from atoll_edge.models.release_state import Refusal
from atoll_edge.models.verify import ExpectedRelease

logger = logging.getLogger(__name__)

CONTROL_LIMIT = 2**16


@dataclass(frozen=True)
class RolloutTurns:
    """The turns of one device, by the wall clock `now`: a store that takes this device's requests keeps that clock
    honest to a quarter of an hour, since it refuses signatures of another time."""

    store: Store
    device: str
    expected: ExpectedRelease
    now: Callable[[], float] = time.time

    def of(self, manifest: Manifest, release: str, *, has_release: bool) -> RolloutTurn | None:
        """The turn for the verified manifest with the digest `release`; None where it has no plan.

        A device without any release (`has_release`) does not wait for its wave, only for the end of a pause or halt.

        Raises:
            StoreError: the bucket cannot be read now.
            Refusal: `created_at` is no time.
        """
        plan = manifest.rollout
        if plan is None:
            return None
        share = share_of(self.device, manifest.namespace, manifest.model, manifest.version)
        wave = wave_of(plan, share)
        control = self._control(manifest, release)
        running = control is None or control.state is RolloutState.RUNNING
        if running and (not has_release or self._is_promoted(manifest, release)):
            return RolloutTurn(Turn.DUE, wave)
        return turn_of(plan, share, age_seconds=self.now() - _published_at(manifest), control=control)

    def _control(self, manifest: Manifest, release: str) -> RolloutControl | None:
        """What delays the roll-out. One that is unreadable or of another manifest counts for nothing: whoever can write
        it could as well remove it."""
        key = keys.rollout(manifest.namespace, manifest.model, manifest.version)
        try:
            control = from_json(RolloutControl, self.store.get(key, limit=CONTROL_LIMIT), skip_unknown=True)
        except ObjectNotFound:
            return None
        except (DecodeError, UnicodeDecodeError) as error:
            logger.warning("%s is passed over: %s", key, error)
            return None
        return control if control.manifest_sha256 == release else None

    def _is_promoted(self, manifest: Manifest, release: str) -> bool:
        signed = self.expected.verify is Verify.REQUIRED
        key = keys.promotion(manifest.namespace, manifest.model, manifest.version, signed=signed)
        try:
            data = self.store.get(key, limit=CONTROL_LIMIT)
            if signed:
                data = verified_payload(data, self.expected.public_keys(), payload_type=PROMOTION_TYPE)
            promotion = from_json(RolloutPromotion, data)
        except (ObjectNotFound, StoreForbidden):
            # A store that does not let devices list answers so for an object that is not there.
            return False
        except (DecodeError, UnicodeDecodeError) as error:
            logger.warning("%s is passed over: %s", key, error)
            return False
        except AtollError as error:
            if error.reason is not Reason.SIGNATURE_INVALID:
                raise
            logger.warning("%s is passed over: %s", key, error)
            return False
        named = (promotion.namespace, promotion.model, promotion.version, promotion.manifest_sha256)
        return named == (manifest.namespace, manifest.model, manifest.version, release)


def _published_at(manifest: Manifest) -> float:
    try:
        return datetime.fromisoformat(manifest.created_at).timestamp()
    except ValueError:
        text = f"the manifest's createdAt is {manifest.created_at[:40]!r}, which is no time; its roll-out needs one"
        raise Refusal(Reason.INTEGRITY_MISMATCH, text) from None
