"""A draft_run run.yaml: settings, time, text."""

from dataclasses import replace

import pytest

from atoll_cli.draft.draft import DraftOptions, draft_run
from atoll_cli.draft.settings import InitialWeights, Settings, select_settings
from atoll_cli.tool import ToolMissing
from atoll_contract import document as documents
from atoll_contract.errors import SpecError
from atoll_contract.images import Resize
from atoll_contract.recipe import MAX_STEPS
from atoll_contract.stage import Stage
from atoll_contract.tool_reports import LintClass, Timing
from atoll_contract.train_spec import Architecture, InitFrom
from atoll_operator.api.decode import training_run
from atoll_operator.api.manifests import read_text
from atoll_operator.api.status import Phase, StagePhase, StageStatus
from atoll_operator.api.status_codec import read_status, write_status
from atoll_operator.api.types import Decimal, ProfileEstimate
from support.draft_inputs import ended_run, lint_report, target

KEY = "datasets/local/reefscape.tar"


def spec_of(text: str) -> dict[str, object]:
    (manifest,) = read_text(text, source="run.yaml")
    assert manifest.problems == ()
    return dict(manifest.value["spec"])


def cpu_timing(on_cpu: Settings, on_gpu: Settings) -> Timing:
    return Timing("cpu", 2, on_cpu.width, on_cpu.batch, seconds_per_step=0.5, other_seconds=60.0)


def test_the_file_is_a_run_that_the_api_takes() -> None:
    draft = draft_run(lint_report(), [KEY], target())
    (manifest,) = read_text(draft.text, source="run.yaml")
    spec = training_run({**manifest.value, "metadata": {"name": draft.run, "namespace": "local"}})
    assert manifest.name == draft.run == draft.model == spec.publish.model == "reefscape"
    assert [item.key for item in spec.datasets] == [KEY]
    assert (spec.training.steps, spec.training.batch_size) == (draft.settings.steps, 8)
    assert spec.training.init_from.type is InitFrom.RANDOM


def test_the_quality_gate_is_live() -> None:
    text = draft_run(lint_report(), [KEY], target()).text
    (manifest,) = read_text(text, source="run.yaml")
    spec = training_run({**manifest.value, "metadata": {"name": "reefscape", "namespace": "local"}})
    assert spec.quality.min_ap50 == 0.2
    assert '  quality: { minAP50: "0.2" } # a detector that finds less is not published' in text


def test_comments_tell_what_is_in_the_archive() -> None:
    text = draft_run(lint_report(warnings=("class x is unused",), negatives=4), [KEY], target()).text
    assert "# coral        1600         400  3 tiny\n" in text
    assert "# algae          20           5  fewer than 50 to learn from" in text
    assert "4 pictures without objects" in text
    assert "# warning: class x is unused\n" in text


@pytest.mark.parametrize("name", ["a\nspec: {}", "a\x1b[31mred", "a\u2028b", "x" * 500, "- {", "名前"])
def test_a_class_name_can_neither_break_the_file_nor_the_terminal(name: str) -> None:
    classes = (LintClass(name, {"train": 9, "validation": 1}, tiny=0),)
    text = draft_run(lint_report(classes=classes), [KEY], target()).text
    assert spec_of(text)["publish"]["model"] == "reefscape"  # type: ignore[index]
    assert "\x1b" not in text
    assert "\u2028" not in text


@pytest.mark.parametrize(
    "key", ["datasets/local/my export (1).tar", "datasets/local/a: b.tar", 'datasets/local/"q".tar']
)
def test_a_key_with_special_characters_is_quoted(key: str) -> None:
    datasets = spec_of(draft_run(lint_report(), [key], target()).text)["datasets"]
    assert datasets[0]["key"] == key  # type: ignore[index]


@pytest.mark.parametrize("name", ["null", "true", "1e3", "0x10", "2026", "no"])
def test_a_name_that_yaml_could_take_for_another_type_stays_a_name(name: str) -> None:
    (manifest,) = read_text(draft_run(lint_report(), [f"datasets/local/{name}.tar"], target()).text, source="run.yaml")
    assert manifest.problems == ()
    assert manifest.name == name


def test_more_images_mean_more_steps_within_bounds() -> None:
    steps = [select_settings(count, InitialWeights(), gpu=False).steps for count in (10, 500, 2000, 100_000)]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (1200, MAX_STEPS)
    assert select_settings(2000, InitialWeights(), gpu=False, max_steps=500).steps == 500


def test_pretrained_weights_need_fewer_steps_and_a_gpu_takes_more() -> None:
    random, pretrained = (
        select_settings(800, InitialWeights(kind), gpu=False) for kind in (InitFrom.RANDOM, InitFrom.IMAGENET)
    )
    assert pretrained.steps < random.steps
    gpu = select_settings(800, InitialWeights(), gpu=True)
    assert (gpu.width, gpu.batch) == (1.0, 32)
    assert gpu.passes(800) == pytest.approx(random.passes(800), abs=3)


def test_the_estimate_is_that_of_the_newest_run_with_these_settings() -> None:
    older = ended_run("older", train_seconds=900, ended="2027-01-08T19:00:00Z")
    wide = ended_run("wide", width="1.0", train_seconds=3000, ended="2027-01-10T19:00:00Z")
    failed = ended_run("failed", phase=Phase.FAILED, train_seconds=1, ended="2027-01-10T19:00:00Z")
    draft = draft_run(lint_report(100, 20), [KEY], target(runs=(ended_run(), older, wide, failed)))
    assert draft.settings.steps == 1200
    assert draft.seconds == 60 + 1200 * 0.5
    assert draft.basis == "0.5 s a step as in run first, and 60 s for the other stages"
    assert "about 11 min on this machine" in draft.text


def test_a_run_on_a_busy_machine_does_not_make_the_next_one_look_slow() -> None:
    busy = ended_run(train_seconds=1500, unloaded_seconds=480)
    draft = draft_run(lint_report(100, 20), [KEY], target(runs=(busy,)))
    assert draft.seconds == 60 + round(1200 * 0.48)
    # What was measured is never more than what the run took.
    idle = ended_run(train_seconds=500, unloaded_seconds=700)
    assert draft_run(lint_report(100, 20), [KEY], target(runs=(idle,))).seconds == 660


def test_after_a_run_on_a_busy_machine_the_whole_estimate_is_right_within_30_percent() -> None:
    """An idle machine takes 300 s for the training and 60 s for the other stages; the busy one took four times that."""
    run = ended_run(steps=1200, train_seconds=1200, unloaded_seconds=290, other_seconds=250)
    status = read_status(run["status"])
    assert status is not None
    others = [(Stage.CONVERT, 40, 9), (Stage.EXPORT, 180, 44), (Stage.PUBLISH, 20, 6)]
    stages = [StageStatus(name, StagePhase.SUCCEEDED, pod_seconds=s, unloaded_seconds=u) for name, s, u in others]
    run["status"] = write_status(documents.replace(status, stages=(*status.stages, *stages)))
    draft = draft_run(lint_report(100, 20), [KEY], target(runs=(run,)))
    assert draft.settings.steps == 1200
    assert draft.seconds == pytest.approx(360, rel=0.3)
    assert "as in run first, and 69 s for the other stages" in draft.basis


def test_the_profile_gives_the_estimate_until_a_run_has_ended() -> None:
    cluster = target(cluster=True, gpu=False, namespace="team", estimate=ProfileEstimate(Decimal(2.0), 100))
    draft = draft_run(lint_report(100, 20), [KEY], cluster)
    # A step of the profile has 16 pictures, one of the draft 8.
    assert draft.seconds == 100 + 1200
    ran = ended_run(namespace="team", on="cpu")
    assert draft_run(lint_report(100, 20), [KEY], replace(cluster, runs=(ran,))).seconds == 660
    on_gpu = ended_run(namespace="team", on="gpu")
    assert draft_run(lint_report(100, 20), [KEY], replace(cluster, runs=(on_gpu,))).seconds == 1300


def test_without_earlier_runs_this_machine_is_benchmarked() -> None:
    draft = draft_run(lint_report(100, 20), [KEY], target(), benchmark=cpu_timing)
    assert draft.seconds == 660
    assert draft.basis == "a few steps timed on this machine (2 CPUs): 0.50 s a step"


def test_a_gpu_that_the_benchmark_finds_gets_larger_settings() -> None:
    def gpu_timing(on_cpu: Settings, on_gpu: Settings) -> Timing:
        return Timing("gpu", 16, on_gpu.width, on_gpu.batch, seconds_per_step=0.1, other_seconds=60.0)

    draft = draft_run(lint_report(), [KEY], target(), benchmark=gpu_timing)
    assert (draft.settings.width, draft.settings.batch) == (1.0, 32)


def test_without_an_estimate_the_draft_has_the_reason() -> None:
    def missing(on_cpu: Settings, on_gpu: Settings) -> Timing:
        raise ToolMissing("this machine could not be timed: no tensorflow")

    draft = draft_run(lint_report(), [KEY], target(), benchmark=missing)
    assert draft.seconds is None
    assert "# Time: no estimate: this machine could not be timed: no tensorflow" in draft.text


def test_a_time_limit_reduces_the_steps() -> None:
    draft = draft_run(lint_report(), [KEY], target(), options=DraftOptions(within=660), benchmark=cpu_timing)
    assert draft.settings.steps == 1200
    assert draft.seconds == 660
    with pytest.raises(SpecError, match="70 s are too short"):
        draft_run(lint_report(), [KEY], target(), options=DraftOptions(within=70), benchmark=cpu_timing)
    with pytest.raises(SpecError, match="cannot be said"):
        draft_run(lint_report(), [KEY], target(), options=DraftOptions(within=600))


def test_a_release_is_continued_with_its_architecture_and_width() -> None:
    weights = InitialWeights(InitFrom.RELEASE, release="note-v3", width=0.35, architecture=Architecture.SSD_300)
    draft = draft_run(lint_report(), [KEY], target(initial_weights=weights, model="note", taken=frozenset({"note"})))
    spec = spec_of(draft.text)
    assert (draft.run, draft.model) == ("note-2", "note")
    assert spec["model"] == {"architecture": "ssd-mobilenet-v2-300", "width": "0.35"}
    assert spec["training"]["initFrom"] == {"type": "release", "releaseRef": {"name": "note-v3"}}  # type: ignore[index]


def test_a_release_that_letterboxes_is_continued_as_it_began() -> None:
    weights = InitialWeights(
        InitFrom.RELEASE, "note-v3", width=0.35, architecture=Architecture.SSD_300, resize=Resize.LETTERBOX
    )
    draft = draft_run(lint_report(), [KEY], target(initial_weights=weights, model="note"))
    model = spec_of(draft.text)["model"]
    assert model["preprocessing"] == {"resize": "letterbox"}  # type: ignore[index]


def test_a_name_that_no_object_can_have_is_refused() -> None:
    with pytest.raises(SpecError, match=r"metadata\.name"):
        draft_run(lint_report(), [KEY], target(), options=DraftOptions(name="My Model"))
