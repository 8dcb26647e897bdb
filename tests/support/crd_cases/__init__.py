"""Objects that the CRDs accept and refuse: the unit tests put them to `schema.check`, the api tests to a real API
server. A rule of the CRDs without a refused case here fails a test."""

from support.crd_cases.case import Case
from support.crd_cases.profiles import PROFILE_CASES
from support.crd_cases.releases import RELEASE_CASES
from support.crd_cases.runs import RUN_CASES
from support.crd_cases.stores import STORE_CASES
from support.crd_cases.sweeps import SWEEP_CASES
from support.crd_cases.updates import UPDATE_CASES

CASES: tuple[Case, ...] = (*RUN_CASES, *UPDATE_CASES, *STORE_CASES, *PROFILE_CASES, *RELEASE_CASES, *SWEEP_CASES)

__all__ = ["CASES", "Case"]
