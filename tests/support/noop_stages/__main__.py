"""`python -P tests/support/noop_stages <stage>`: one stage without work, under the real runner.

`NOOP_PLAN` names a folder. `plan.json` there says what a stage does: `{"train": {"steps": 50, "seconds": 0.02,
"fail": "StorageUnavailable", "times": 1}}`, with `"learns": true` its progress looks like that of a training, with
`"scores": true` it becomes as good as its learning rate is near .004, and with `"cutEvery": 2` its process is killed
after each two steps. `"summary": {"chip": "rk3588"}` adds to its result, and `"targets"` of publish are the manifest's.
Of several workers the first does all that, and the others wait for its last step; with `"killedWorker": 1` that one is
killed in the first attempt, after a step of the first.
Where the folder can be written to, every start is a line in `calls`, and `<stage>.json` what it was given.
"""

import hashlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from atoll_contract import keys
from atoll_contract.document import from_dict, replace, to_json
from atoll_contract.errors import AtollError, Reason
from atoll_contract.release import EdgeTpu, Manifest, ManifestFile, ModelInput, Role, TargetResult, compile_artifact
from atoll_contract.stage import PublishSpec, Stage
from atoll_contract.stage_result import Artifact, Progress
from atoll_contract.store.base import ObjectNotFound, PreconditionFailed
from atoll_stages.runtime.entry import Interrupted, StageContext, StageOutcome, run_stage

NAMES = {
    Stage.CONVERT: ("dataset", "labels"),
    Stage.TRAIN: ("weights", "history"),
    Stage.EXPORT: ("model", "labels", "report"),
    Stage.COMPILE: ("compiled",),
}
SUMMARIES: dict[Stage, dict[str, Any]] = {
    Stage.CONVERT: {"digest": "d" * 64, "pictures": 3, "classes": [{"name": "red", "boxes": 4}]},
    Stage.EXPORT: {"metrics": {"float": {"ap50": 0.9, "ap": 0.5}, "int8": {"ap50": 0.88, "perClass": {"red": 0.88}}}},
    Stage.COMPILE: {"compiled": True, "mappedPercent": 98.0},
}


def work(context: StageContext) -> StageOutcome:
    """Whatever the plan says; the same bytes for the same run, however often it was interrupted."""
    stage = context.input.stage
    asked = _plan().get(context.input.folder, {})
    number = _note(context)
    if number <= asked.get("times", 0):
        raise AtollError(Reason(asked["fail"]), f"attempt {context.input.attempt} fails by plan")
    if context.worker:
        return _follow(context, asked)
    cut_after = asked.get("cutEvery", math.inf)
    score = _score(context) if asked.get("scores") else None
    learns = asked.get("learns", False)
    _steps(context, asked.get("steps", 0), asked.get("seconds", 0.0), learns=learns, score=score, cut=cut_after)
    if stage is Stage.PUBLISH:
        return _publish(context, tuple(from_dict(TargetResult, item) for item in asked.get("targets", ())))
    summary = {**SUMMARIES.get(stage, {}), **asked.get("summary", {})}
    if asked.get("scores"):
        summary = {"bestStep": asked["steps"], "ap50": _score(context)}
    names = NAMES[stage]
    if context.input.target:
        names = tuple(compile_artifact(context.input.target, name) for name in names)
    outputs = tuple(_save(context, name) for name in names)
    return StageOutcome(f"{stage} is done", outputs, summary)


def _score(context: StageContext) -> float:
    """What the training comes to with its learning rate."""
    train = context.input.train
    assert train is not None
    assert train.learning_rate is not None
    return round(max(0.02, 0.9 - 0.3 * abs(math.log10(train.learning_rate / 0.004))), 4)


def _steps(context: StageContext, steps: int, seconds: float, *, learns: bool, score: float | None, cut: float) -> None:
    """Like training: a checkpoint after every step, and none done twice. After `cut` steps the process is killed."""
    own = "" if context.input.stage is Stage.TRAIN else f"-{context.input.folder}"
    key = f"{keys.checkpoints_prefix(context.input.run)}step{own}"
    try:
        step = int(context.store.get(key))
    except ObjectNotFound:
        step = 0
    first = step
    every = (context.input.train.eval_every_steps if context.input.train else None) or 1
    while step < steps:
        if context.stop.wait(seconds):
            raise Interrupted
        step += 1
        context.store.put(key, str(step).encode())
        progress = replace(_progress(step, steps, seconds, learns=learns), checkpoint_step=step)
        measured = step // every * every
        if score is not None and measured:
            progress = replace(progress, ap50=score * math.sqrt(measured / steps), best_step=measured)
        context.report(progress)
        if step - first >= cut and step < steps:
            os.kill(os.getpid(), signal.SIGKILL)


def _follow(context: StageContext, asked: dict[str, Any]) -> StageOutcome:
    """Another worker than the first: it waits for the last step of that one."""
    key = f"{keys.checkpoints_prefix(context.input.run)}step"
    step = 0
    while step < asked.get("steps", 0):
        if context.stop.wait(0.02):
            raise Interrupted
        try:
            step = int(context.store.get(key))
        except ObjectNotFound:
            continue
        if asked.get("killedWorker") == context.worker and context.input.attempt == 1:
            os.kill(os.getppid(), signal.SIGKILL)
    return StageOutcome("the first worker has the result")


def _progress(step: int, steps: int, seconds: float, *, learns: bool) -> Progress:
    if not learns:
        return Progress(100 * step / steps, step=step, total_steps=steps, loss=1 / step)
    share = step / steps
    loss, ap50 = 2.4 * math.exp(-4 * share) + 0.3, 0.86 * (1 - math.exp(-5 * share))
    left = seconds * (steps - step)
    return Progress(100 * share, step=step, total_steps=steps, loss=loss, ap50=ap50, eta_seconds=left)


def _save(context: StageContext, name: str) -> Artifact:
    path = context.work / name
    path.write_bytes(hashlib.sha256(f"{context.input.stage} {name}".encode()).digest())
    return context.save(name, path)


def _publish(context: StageContext, targets: tuple[TargetResult, ...]) -> StageOutcome:
    spec = context.input.publish
    assert spec is not None
    bundle = _save(context, "bundle")
    context.store.upload(keys.blob(bundle.sha256), context.work / "bundle")
    key = keys.manifest(context.input.run.namespace, spec.model, spec.version)
    data = to_json(replace(_manifest(context, spec, bundle), targets=targets or None))
    try:
        context.store.put(key, data, if_absent=True)
    except PreconditionFailed:
        if context.store.get(key) != data:
            taken = {"nextVersion": spec.version + 1}
            return StageOutcome("the version is taken", (), taken, Reason.VERSION_CONFLICT)
    manifest = Artifact("manifest", key, hashlib.sha256(data).hexdigest(), len(data))
    return StageOutcome(f"published {spec.model}-v{spec.version}", (manifest, bundle))


def _manifest(context: StageContext, spec: PublishSpec, bundle: Artifact) -> Manifest:
    """The same for the same run and version, whichever attempt writes it."""
    figures = SUMMARIES[Stage.EXPORT]["metrics"]
    return Manifest(
        namespace=context.input.run.namespace,
        model=spec.model,
        version=spec.version,
        sequence=spec.version,
        created_at="2027-01-09T19:12:00Z",
        run=context.input.run,
        input=ModelInput(320, 320),
        labels=("red",),
        thresholds=(0.5,),
        files=(ManifestFile(Role.BUNDLE, "model.tar.gz", keys.blob(bundle.sha256), bundle.sha256, bundle.size),),
        edgetpu=EdgeTpu(compiled=False),
        metrics={kind: {"ap50": figures[kind]["ap50"]} for kind in ("float", "int8")},
    )


def _plan() -> dict[str, Any]:
    folder = os.environ.get("NOOP_PLAN")
    path = Path(folder) / "plan.json" if folder else None
    return dict(json.loads(path.read_text())) if path and path.is_file() else {}


def _note(context: StageContext) -> int:
    """Record this start; how many of this stage there have been."""
    folder = os.environ.get("NOOP_PLAN")
    if not folder or not os.access(folder, os.W_OK):
        return 1
    stage = context.input.folder
    (Path(folder) / f"{stage}.json").write_bytes(to_json(context.input))
    line = f"{stage} {context.input.attempt} {os.getppid()} {time.time()}\n"
    with (Path(folder) / "calls").open("a+") as calls:
        calls.write(line)
        calls.flush()
        calls.seek(0)
        return sum(1 for item in calls if item.split()[0] == stage)


if __name__ == "__main__":
    raise SystemExit(run_stage(Stage(sys.argv[1]), work))
