"""Fault P11 (docs/faults.md): the clock of a stage's machine is wrong, and a real server refuses its signatures."""

import datetime
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from atoll_contract.errors import Reason, is_transient
from atoll_contract.store.base import StoreForbidden
from support.faulted_store import Bench

pytestmark = pytest.mark.api

SKEW = datetime.timedelta(minutes=20)


@pytest.mark.parametrize("skew", [SKEW, -SKEW], ids=["fast", "slow"])
def test_P11_a_wrong_clock_is_said_and_not_taken_for_wrong_keys(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, skew: datetime.timedelta
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    store = bench.open()
    store.put("before", b"x")
    signing: Any = importlib.import_module("botocore.auth")
    right = signing.get_current_datetime
    monkeypatch.setattr(signing, "get_current_datetime", lambda *args, **options: right(*args, **options) + skew)
    operations: tuple[Callable[[], object], ...] = (
        lambda: store.put("a", b"x"),
        lambda: store.upload("a", tmp_path / "file"),
    )
    for operation in operations:
        with pytest.raises(StoreForbidden, match="the clock of this machine is wrong") as caught:
            operation()
        assert caught.value.reason is Reason.STORAGE_FORBIDDEN
        assert not is_transient(caught.value.code)
