"""The cache of converted datasets, and that equal input gives equal bytes."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.convert_spec import Rename
from atoll_contract.document import replace, to_json
from atoll_contract.errors import ExitCode, Reason
from atoll_contract.store.base import ObjectInfo
from atoll_contract.store.directory import DirStore
from atoll_contract.store.lease import Lease
from support.archives import packed, supervisely
from support.convert_stage import ConvertStage
from support.polling import wait_until


def test_two_conversions_give_the_same_bytes(tmp_path: Path) -> None:
    data = packed({**supervisely(20, datasets=("ds0", "ds1"))}, ".tar")
    first, second = (ConvertStage(tmp_path / name).put("x.tar", data) for name in ("a", "b"))
    for stage in (first, second):
        stage.root.mkdir(exist_ok=True)
    one, other = first.run_process().dataset(), second.run().dataset()
    assert one.digest == other.digest
    assert [(s.name, s.sha256) for p in one.splits.values() for s in p.shards] == [
        (s.name, s.sha256) for p in other.splits.values() for s in p.shards
    ]


def test_the_order_in_the_archive_does_not_matter_to_the_records(tmp_path: Path) -> None:
    files = supervisely(20)
    digests = []
    for name, ordered in (("a", files), ("b", dict(reversed(files.items())))):
        stage = ConvertStage(tmp_path / name)
        stage.root.mkdir()
        dataset = stage.put("x.tar", packed(ordered, ".tar")).run().dataset()
        digests.append([s.sha256 for p in dataset.splits.values() for s in p.shards])
    assert digests[0] == digests[1]


def test_a_second_run_finds_the_first_ones_dataset(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(6), ".tar"))
    first, second = stage.run(), stage.run()
    assert (first.reason, second.reason) == (Reason.COMPLETED, Reason.CACHE_HIT)
    assert second.code == ExitCode.OK
    assert second.result.outputs == first.result.outputs
    assert second.result.summary == first.result.summary


def test_O36_a_conversion_asked_for_anew_reads_the_archive_and_not_what_the_store_says_of_it(
    stage: ConvertStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = packed(supervisely(6), ".tar"), packed(supervisely(7), ".tar")
    stage.put("x.tar", old)
    head = DirStore.head

    def stale(store: DirStore, key: str) -> ObjectInfo | None:
        info = head(store, key)
        return info and replace(info, sha256=hashlib.sha256(old).hexdigest())

    monkeypatch.setattr(DirStore, "head", stale)
    assert stage.run().result.summary["pictures"] == 6
    (stage.store / stage.sources[0].key).write_bytes(new)
    assert stage.run().result.summary["pictures"] == 6
    stage.adopt_from = 2
    assert stage.run().result.summary["pictures"] == 7


@pytest.mark.parametrize("options", [{"ignore": ("x",)}, {"rename": (Rename("a", "b"),)}, {"max_invalid_percent": 2.0}])
def test_other_options_are_another_dataset(stage: ConvertStage, options: dict[str, object]) -> None:
    stage.put("x.tar", packed(supervisely(6), ".tar"))
    first, second = stage.run(), stage.run(**options)
    assert second.reason is Reason.COMPLETED
    assert first.dataset().digest != second.dataset().digest


def test_a_damaged_cache_is_written_anew(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(6), ".tar"))
    first = stage.run()
    shard = stage.store / first.dataset().splits["train"].shards[0].key
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    assert stage.run().reason is Reason.COMPLETED
    assert shard.read_bytes() == whole


def test_namespaces_do_not_share_their_caches(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(supervisely(6), ".tar")).run()
    assert ended.result.outputs[0].key.startswith("cache/team/datasets/")


def test_dataset_json_is_its_own_artifact(stage: ConvertStage) -> None:
    ended = stage.put("x.tar", packed(supervisely(6), ".tar")).run()
    dataset = ended.dataset()
    assert to_json(dataset) == (stage.store / ended.result.outputs[0].key).read_bytes()
    assert ended.result.outputs[1].sha256 == dataset.label_map.sha256
    assert len(ended.result.termination_message()) < 3072


def test_runs_of_one_set_that_start_together_convert_it_once(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(40), ".tar"))
    stages = [ConvertStage(stage.root / name, sources=stage.sources, shared=stage.store) for name in "abc"]
    for number, other in enumerate(stages, start=1):
        other.root.mkdir()
        other.runs = 10 * number
    with ThreadPoolExecutor(len(stages)) as pool:
        ended = list(pool.map(ConvertStage.run_process, stages))
    assert sorted(item.reason for item in ended) == [Reason.CACHE_HIT, Reason.CACHE_HIT, Reason.COMPLETED]
    assert len({item.result.outputs for item in ended}) == 1


def test_a_run_waits_for_the_one_that_converts_and_takes_what_it_wrote(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(6), ".tar"))
    first = stage.run()
    digest = first.dataset().digest
    dataset = stage.store / first.result.outputs[0].key
    written = dataset.read_bytes()
    dataset.unlink()
    store = DirStore(stage.store)
    key = keys.conversion_lease("team", digest)

    def finish() -> None:
        with Lease(store, key, "uid-of-another", waits=lambda _: None).held():
            held.set()
            note = "another run (uid-of-another) converts the same archives"
            wait_until(lambda: note in stage.output.getvalue(), what=note)
            dataset.write_bytes(written)

    held = threading.Event()
    thread = threading.Thread(target=finish)
    thread.start()
    assert held.wait(20)
    ended = stage.run()
    thread.join(20)
    assert ended.reason is Reason.CACHE_HIT
    assert ended.result.outputs == first.result.outputs


def test_a_run_that_is_stopped_while_it_waits_ends_at_once(stage: ConvertStage) -> None:
    stage.put("x.tar", packed(supervisely(6), ".tar"))
    digest = stage.run().dataset().digest
    (stage.store / keys.cached_dataset("team", digest) / "dataset.json").unlink()
    with Lease(DirStore(stage.store), keys.conversion_lease("team", digest), "another", waits=lambda _: None).held():
        stage.stop.set()
        assert stage.run().reason is Reason.SUSPENDED
