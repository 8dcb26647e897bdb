"""TrainingRuns on their creation."""

from typing import Any

from support.crd_cases.case import ABSENT, Case, Document, accepted, changed, refused

DIGEST = "sha256:" + "0123456789abcdef" * 4

RUN: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "case"},
    "spec": {"datasets": [{"key": "datasets/team/a.tar"}], "publish": {"model": "note"}},
}


def run(**spec: Any) -> Document:
    """A TrainingRun with these fields of its spec changed."""
    return changed(RUN, {"spec": spec})


def named(name: str) -> Document:
    return changed(RUN, {"metadata": {"name": name}})


def dataset(**fields: Any) -> Document:
    return run(datasets=[{"key": "datasets/team/a.tar", **fields}])


def keyed(*keys: str) -> Document:
    return run(datasets=[{"key": key} for key in keys])


def start(**fields: Any) -> Document:
    return run(training={"initFrom": fields})


def checkpoint(key: str, digest: str = DIGEST) -> Document:
    return start(type="checkpoint", checkpoint={"key": key, "digest": digest})


def tuned(**values: str) -> Document:
    return run(training={"hyperparameters": {name.replace("__", "-"): value for name, value in values.items()}})


_NAMES = (
    accepted("run-name-of-40", named("a" * 40)),
    refused("run-name-of-41", named("a" * 41), "metadata.name must be at most 40 characters"),
    accepted("run-name-begins-with-digit", named("2027-note")),
    refused("run-name-with-dot", named("note.v1"), "metadata.name must be at most 40 characters"),
    refused("run-without-spec", changed(RUN, {"spec": ABSENT}), "spec: Required value"),
)

_DATASETS = (
    accepted("datasets-32", keyed(*(f"d/{number}.tar" for number in range(32)))),
    refused("datasets-33", keyed(*(f"d/{number}.tar" for number in range(33))), "must have at most 32 items"),
    refused("datasets-none", run(datasets=[]), "should have at least 1 items"),
    refused("datasets-absent", run(datasets=ABSENT), "spec.datasets: Required value"),
    refused("datasets-twice", keyed("d/a.tar", "d/a.tar"), "Duplicate value"),
    accepted("key-in-full", keyed("s3://frc/atoll/datasets/a.tar")),
    accepted("key-of-a-folder", keyed("datasets/team/")),
    accepted("key-with-spaces-and-umlauts", keyed("datasets/team/Übung 1, rot.tar")),
    accepted("key-with-dots-in-a-name", keyed("datasets/team/a..b.tar")),
    refused("key-over-http", keyed("https://example.org/a.tar"), 'put the archive into the bucket with "atoll push"'),
    refused("key-of-a-volume", keyed("pvc://claim/a.tar"), "relative to the store's prefix or begin with s3://"),
    refused("key-with-parent", keyed("datasets/../../other/a.tar"), 'must not hold the path segments "." or ".."'),
    refused("key-with-parent-at-the-end", keyed("datasets/.."), 'must not hold the path segments "." or ".."'),
    refused("key-with-parent-in-full", keyed("s3://frc/../other/a.tar"), 'must not hold the path segments "." or ".."'),
    refused("key-with-dot-segment", keyed("./a.tar"), 'must not hold the path segments "." or ".."'),
    refused("key-absolute", keyed("/datasets/a.tar"), 'must not begin with "/"'),
    refused("key-with-empty-segment", keyed("datasets//a.tar"), 'hold an empty path segment ("//")'),
    refused("key-with-backslash", keyed("datasets\\..\\a.tar"), "should match"),
    refused("key-with-newline", keyed("datasets/a.tar\n"), "should match"),
    refused("key-of-a-bucket-alone", keyed("s3://frc/"), "must name bucket and key"),
    refused("key-without-bucket", keyed("s3:///a.tar"), "must name bucket and key"),
    refused("key-too-long", keyed("d" * 1025), "Too long: may not be more than 1024"),
    accepted("dataset-digest", dataset(digest=DIGEST)),
    refused("dataset-digest-without-algorithm", dataset(digest=DIGEST[7:]), "should match"),
    refused("dataset-digest-in-capitals", dataset(digest=DIGEST.replace("abcdef", "ABCDEF")), "should match"),
    refused("dataset-digest-of-a-folder", dataset(key="d/", digest=DIGEST), "a digest pins one archive"),
    accepted("dataset-format", dataset(format="tfod-csv")),
    refused("dataset-format", dataset(format="pascal"), 'Unsupported value: "pascal"'),
    accepted("dataset-store", dataset(objectStoreRef={"name": "archive"})),
    refused("dataset-store-without-name", dataset(objectStoreRef={}), "objectStoreRef.name: Required value"),
)

_CONVERSION = (
    accepted("classes", run(conversion={"classes": ["a", "b"]})),
    refused("classes-twice", run(conversion={"classes": ["a", "b", "a"]}), "must not name a class twice"),
    refused("class-without-name", run(conversion={"classes": [""]}), "should be at least 1 char"),
    accepted("rename", run(conversion={"rename": [{"from": "a", "to": "c"}, {"from": "b", "to": "c"}]})),
    refused(
        "rename-twice",
        run(conversion={"rename": [{"from": "a", "to": "b"}, {"from": "a", "to": "c"}]}),
        "Duplicate value",
    ),
    accepted("ignore", run(conversion={"ignore": ["a", "b"]})),
    refused("ignore-twice", run(conversion={"ignore": ["a", "a"]}), "Duplicate value"),
    accepted("split", run(conversion={"split": {"train": 70, "validation": 15, "test": 15}})),
    refused("split-of-95", run(conversion={"split": {"train": 80, "validation": 15}}), "must add up to 100"),
    refused("split-in-part", run(conversion={"split": {"train": 70}}), "give all three"),
    refused(
        "split-without-train", run(conversion={"split": {"train": 0, "validation": 100}}), "greater than or equal to 1"
    ),
    refused("split-by", run(conversion={"split": {"by": "random"}}), 'Unsupported value: "random"'),
    accepted("shards", run(conversion={"shards": 16})),
    refused("no-shards", run(conversion={"shards": 0}), "greater than or equal to 1"),
    refused("shards-of-17", run(conversion={"shards": 17}), "less than or equal to 16"),
    accepted("invalid-percent", run(conversion={"maxInvalidPercent": "2.5"})),
    refused("invalid-percent-as-number", run(conversion={"maxInvalidPercent": 2.5}), "must be of type string"),
    refused(
        "invalid-percent-of-101",
        run(conversion={"maxInvalidPercent": "101"}),
        'is a percentage in quotes, "0" to "100"',
    ),
)

_MODEL = (
    accepted("model", run(model={"architecture": "ssd-mobilenet-v2-300", "width": "0.5"})),
    accepted("larger-input", run(model={"architecture": "ssd-mobilenet-v2-fpnlite-512"})),
    accepted("anchor-free", run(model={"architecture": "dfl-mobilenet-v2-fpn-640"})),
    refused("anchor-free-of-another-size", run(model={"architecture": "dfl-mobilenet-v2-fpn-512"}), "-fpn-512"),
    refused("input-of-another-size", run(model={"architecture": "ssd-mobilenet-v2-fpnlite-448"}), "-448"),
    refused("architecture", run(model={"architecture": "yolov8n"}), 'Unsupported value: "yolov8n"'),
    accepted("squash", run(model={"preprocessing": {"resize": "squash"}})),
    accepted("letterbox", run(model={"preprocessing": {"resize": "letterbox"}})),
    refused("another-resize", run(model={"preprocessing": {"resize": "crop"}}), 'Unsupported value: "crop"'),
    refused("preprocessing-without-resize", run(model={"preprocessing": {}}), "Required value"),
    refused("width", run(model={"width": "0.75"}), 'Unsupported value: "0.75"'),
    refused("width-as-number", run(model={"width": 1}), "must be of type string"),
)

_TRAINING = (
    accepted("preset", run(training={"preset": "plain"})),
    refused("unknown-preset", run(training={"preset": "fast"}), 'Unsupported value: "fast"'),
    accepted("start-from-imagenet", start(type="imagenet")),
    accepted("start-from-release", start(type="release", releaseRef={"name": "note-v2"})),
    refused("start-from-release-without-ref", start(type="release"), "releaseRef and type: release belong together"),
    refused(
        "release-ref-without-type",
        start(releaseRef={"name": "note-v2"}),
        "releaseRef and type: release belong together",
    ),
    accepted("start-from-checkpoint", checkpoint("weights/own.weights.h5")),
    refused(
        "start-from-checkpoint-without-one", start(type="checkpoint"), "checkpoint and type: checkpoint belong together"
    ),
    refused(
        "checkpoint-without-type",
        start(type="random", checkpoint={"key": "weights/own.weights.h5", "digest": DIGEST}),
        "checkpoint and type: checkpoint belong together",
    ),
    refused(
        "checkpoint-without-digest",
        start(type="checkpoint", checkpoint={"key": "weights/own.weights.h5"}),
        "checkpoint.digest: Required value",
    ),
    refused("checkpoint-digest", checkpoint("weights/own.weights.h5", digest="sha256:0"), "should match"),
    accepted("checkpoint-in-full", checkpoint("s3://frc/atoll/weights/own.weights.h5")),
    refused("checkpoint-over-http", checkpoint("http://example.org/w.h5"), '"atoll push --weights"'),
    refused("checkpoint-with-parent", checkpoint("weights/../w.h5"), 'must not hold the path segments "." or ".."'),
    refused("checkpoint-of-a-folder", checkpoint("weights/"), 'must not begin or end with "/"'),
    refused("checkpoint-of-a-bucket", checkpoint("s3://b/w.h5"), "as s3://bucket/path/to/own.weights.h5"),
    refused("start-from-elsewhere", start(type="coco"), 'Unsupported value: "coco"'),
    refused("steps-0", run(training={"steps": 0}), "greater than or equal to 1"),
    refused("steps-as-text", run(training={"steps": "500"}), "must be of type integer"),
    refused("steps-with-fraction", run(training={"steps": 500.5}), "must be of type integer"),
    accepted("learning-rate", run(training={"learningRate": "0.004"})),
    accepted("learning-rate-with-exponent", run(training={"learningRate": "1e-3"})),
    refused("learning-rate-0", run(training={"learningRate": "0.0"}), "must be above 0 and at most 10"),
    refused("learning-rate-11", run(training={"learningRate": "11"}), "must be above 0 and at most 10"),
    refused("learning-rate-as-number", run(training={"learningRate": 0.02}), "must be of type string"),
    refused("learning-rate-as-word", run(training={"learningRate": "fast"}), "should match"),
    accepted("gpus", run(training={"accelerator": "gpu", "gpus": 4})),
    accepted("workers", run(training={"workers": 16, "batchSize": 16})),
    accepted("workers-with-gpus", run(training={"workers": 2, "gpus": 4, "batchSize": 32})),
    accepted("workers-without-batch-size", run(training={"workers": 3})),
    accepted("one-worker-with-any-batch-size", run(training={"accelerator": "gpu", "gpus": 4, "batchSize": 6})),
    refused("workers-0", run(training={"workers": 0}), "greater than or equal to 1"),
    refused("workers-17", run(training={"workers": 17}), "less than or equal to 16"),
    refused(
        "workers-with-an-uneven-batch",
        run(training={"workers": 2, "gpus": 4, "batchSize": 20}),
        "batchSize must be a multiple of workers × gpus",
    ),
    refused("gpus-on-the-cpu", run(training={"accelerator": "cpu", "gpus": 4}), "accelerator: cpu uses no GPU"),
    accepted("eval-every-step", run(training={"steps": 10, "evalEverySteps": 10})),
    refused(
        "eval-after-the-end", run(training={"steps": 10, "evalEverySteps": 11}), "evalEverySteps must not exceed steps"
    ),
    accepted("checkpoint-every-step", run(training={"steps": 10, "checkpointEverySteps": 1})),
    refused(
        "checkpoint-after-the-end",
        run(training={"steps": 10, "checkpointEverySteps": 11}),
        "checkpointEverySteps must not exceed steps",
    ),
    accepted("early-stopping", run(training={"earlyStopping": {"patience": 3}})),
    refused("early-stopping-without-patience", run(training={"earlyStopping": {}}), "patience: Required value"),
    accepted("hyperparameters", tuned(train__steps="500", batch_size="8", name="x", weight__decay="1e-4")),
    refused("hyperparameter-unknown", tuned(learn__rate="0.1"), "names are train-steps"),
    refused("hyperparameter-of-words", tuned(epochs="many"), "are whole numbers from 1 in quotes"),
    refused("hyperparameter-0", tuned(batch_size="0"), "are whole numbers from 1 in quotes"),
    refused("hyperparameter-as-number", run(training={"hyperparameters": {"epochs": 5}}), "must be of type string"),
    refused("hyperparameter-no-decimal", tuned(weight__decay="small"), "are numbers in quotes"),
    accepted("hyperparameter-switch", tuned(augment__vertical__flip="true")),
    accepted("hyperparameters-of-a-gpu", tuned(mixed__precision="true", xla="false", decoded__cache__mebibytes="8192")),
    refused("hyperparameter-xla", tuned(xla="maybe"), '"true" or "false", in quotes'),
    refused("hyperparameter-cache", tuned(decoded__cache__mebibytes="1.5"), "is a whole number in quotes"),
    refused("hyperparameter-no-switch", tuned(augment__vertical__flip="yes"), '"true" or "false", in quotes'),
)

_GATES = (
    accepted("quality", run(quality={"minAP50": "1", "maxAP50Drop": "0", "minMappedPercent": "99.5"})),
    refused("quality-ap-in-percent", run(quality={"minAP50": "50"}), "should match"),
    refused("quality-ap-over-1", run(quality={"minAP50": "1.5"}), 'for 50 percent write "0.5"'),
    refused("quality-ap-as-number", run(quality={"minAP50": 0.5}), "must be of type string"),
    refused("quality-drop-over-1", run(quality={"maxAP50Drop": "5"}), 'for 5 points write "0.05"'),
    refused(
        "quality-mapped-over-100", run(quality={"minMappedPercent": "101"}), 'is a percentage in quotes, "0" to "100"'
    ),
    accepted("compile-nothing", run(compile=[])),
    accepted("compile-required", run(compile=[{"target": "edgetpu", "policy": "Required"}])),
    refused("compile-twice", run(compile=[{"target": "edgetpu"}, {"target": "edgetpu"}]), "Duplicate value"),
    refused("compile-for-elsewhere", run(compile=[{"target": "tpu"}]), 'Unsupported value: "tpu"'),
    accepted("compile-for-four", run(compile=[{"target": name} for name in ("edgetpu", "rknn", "qnn", "hailo")])),
    accepted("compile-for-a-chip", run(compile=[{"target": "rknn", "chip": "rk3566"}])),
    refused("compile-for-no-chip", run(compile=[{"target": "rknn", "chip": "rk1"}]), 'Unsupported value: "rk1"'),
    refused("compile-chip-of-another", run(compile=[{"target": "qnn", "chip": "rk3588"}]), "chip does not belong to"),
    refused("compile-chip-of-edgetpu", run(compile=[{"target": "edgetpu", "chip": "hailo8"}]), "edgetpu has none"),
    accepted("compile-gates", run(compile=[{"target": "qnn", "quality": {"maxAP50Drop": "0.02"}}])),
    refused("compile-drop-over-1", run(compile=[{"target": "qnn", "quality": {"maxAP50Drop": "2"}}]), 'write "0.05"'),
    refused(
        "compile-mapped-over-100",
        run(compile=[{"target": "qnn", "quality": {"minMappedPercent": "101"}}]),
        'is a percentage in quotes, "0" to "100"',
    ),
    refused("compile-policy", run(compile=[{"target": "edgetpu", "policy": "Always"}]), 'Unsupported value: "Always"'),
)


def rollout(*steps: tuple[int, int], **fields: Any) -> Document:
    plan = {"steps": [{"percent": percent, "afterSeconds": after} for percent, after in steps], **fields}
    return run(publish={"model": "note", "rollout": plan})


_ROLLOUTS = (
    accepted("rollout-by-defaults", run(publish={"model": "note", "rollout": {"steps": [{"percent": 100}]}})),
    accepted("rollout-in-three-steps", rollout((10, 0), (50, 3600), (100, 86400), haltAt=2)),
    accepted("rollout-in-another-order", rollout((100, 86400), (10, 0))),
    accepted("rollout-that-ends-below-100", rollout((10, 0))),
    accepted("rollout-of-10-steps", rollout(*((number * 10, number) for number in range(1, 11)))),
    refused(
        "rollout-of-11-steps", rollout(*((number, number) for number in range(1, 12))), "must have at most 10 items"
    ),
    refused("rollout-without-steps", run(publish={"model": "note", "rollout": {}}), "rollout.steps: Required value"),
    refused("rollout-of-no-steps", rollout(), "should have at least 1 items"),
    refused("rollout-of-0-percent", rollout((0, 0)), "should be greater than or equal to 1"),
    refused("rollout-of-101-percent", rollout((101, 0)), "should be less than or equal to 100"),
    refused("rollout-before-its-publication", rollout((10, -1)), "should be greater than or equal to 0"),
    refused("rollout-of-one-percent-twice", rollout((10, 0), (10, 60)), "must not have two steps of the same percent"),
    refused("rollout-that-shrinks", rollout((50, 0), (10, 60)), "a step with a larger percent must begin later"),
    refused("rollout-of-one-moment-twice", rollout((10, 0), (50, 0)), "a step with a larger percent must begin later"),
    refused("rollout-halt-at-0", rollout((10, 0), haltAt=0), "should be greater than or equal to 1"),
)


def widths(**metres: str) -> Document:
    return run(publish={"model": "note", "objectWidths": metres})


_PUBLISH = (
    accepted("object-widths", widths(note="0.36", cone="100", mark="0.001")),
    accepted("object-widths-of-none", widths()),
    accepted("object-widths-of-64-labels", widths(**{f"label-{number}": "1" for number in range(64)})),
    refused(
        "object-widths-of-65-labels",
        widths(**{f"label-{number}": "1" for number in range(65)}),
        "must have at most 64",
    ),
    refused("object-width-of-0", widths(note="0"), 'are metres in quotes, "0.001" to "100"'),
    refused("object-width-of-101", widths(note="0.36", cone="101"), 'are metres in quotes, "0.001" to "100"'),
    refused("object-width-in-centimetres", widths(note="36 cm"), "should match"),
    accepted("publish", run(publish={"model": "a" * 40, "channel": "candidate"})),
    refused("publish-model-of-41", run(publish={"model": "a" * 41}), "Too long"),
    refused("publish-model-of-another", run(publish={"model": "../team/note"}), "should match"),
    refused("publish-model-in-capitals", run(publish={"model": "Note"}), "should match"),
    refused("publish-channel", run(publish={"channel": "stable/../../x"}), "should match"),
    *_ROLLOUTS,
    refused("publish-absent", run(publish=ABSENT), "spec.publish: Required value"),
    refused("publish-without-model", run(publish={"model": ABSENT}), "spec.publish.model: Required value"),
    accepted("policy", run(runPolicy={"activeDeadlineSeconds": 1, "backoffLimit": 0, "ttlSecondsAfterFinished": 0})),
    refused("policy-backoff", run(runPolicy={"backoffLimit": -1}), "greater than or equal to 0"),
    refused("policy-deadline", run(runPolicy={"activeDeadlineSeconds": 0}), "greater than or equal to 1"),
    accepted("null-takes-the-default", run(suspend=None, training=None)),
    accepted("null-is-absent", run(quality={"minAP50": None})),
)

RUN_CASES: tuple[Case, ...] = (*_NAMES, *_DATASETS, *_CONVERSION, *_MODEL, *_TRAINING, *_GATES, *_PUBLISH)
