"""TrainingProfiles."""

from typing import Any

from support.crd_cases.case import ABSENT, Case, Document, accepted, changed, refused

PINNED = "registry.example.org/atoll/stage@sha256:" + "0" * 64
TAGGED = "registry.example.org/atoll/stage:1.0"

PROFILE: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingProfile",
    "metadata": {"name": "case"},
    "spec": {"images": {"convert": PINNED, "train": PINNED, "publish": PINNED}},
}


def profile(**spec: Any) -> Document:
    return changed(PROFILE, {"spec": spec})


def _tagged(field: str) -> Case:
    says = f"images.{field} must be pinned by digest (name@sha256:…); allowTags admits images by tag"
    return refused(f"profile-tag-of-{field}", profile(images={field: TAGGED}), says)


def cpu(amount: Any) -> Document:
    return profile(resources={"train": {"requests": {"cpu": amount}}})


PROFILE_CASES: tuple[Case, ...] = (
    accepted("profile", PROFILE),
    accepted("profile-name", changed(PROFILE, {"metadata": {"name": "gpu-2"}})),
    refused(
        "profile-name",
        changed(PROFILE, {"metadata": {"name": "a" * 64}}),
        "metadata.name must be at most 63 characters",
    ),
    *(
        _tagged(field)
        for field in ("convert", "train", "trainGPU", "compile", "compileRKNN", "compileQNN", "compileHailo", "publish")
    ),
    accepted("profile-all-pinned", profile(images={"trainGPU": PINNED, "compile": PINNED})),
    accepted("profile-images-of-targets", profile(images={"compileRKNN": PINNED, "compileQNN": PINNED})),
    accepted("profile-tags", profile(allowTags=True, images={"convert": TAGGED, "compile": TAGGED})),
    refused(
        "profile-digest-cut-short", profile(images={"train": PINNED[:-1]}), "images.train must be pinned by digest"
    ),
    refused("profile-without-train-image", profile(images={"train": ABSENT}), "spec.images.train: Required value"),
    refused("profile-image-with-space", profile(images={"train": f" {PINNED}"}), "should match"),
    accepted("profile-quantity", cpu("1500m")),
    accepted("profile-quantity-as-number", cpu(2)),
    refused("profile-quantity-with-fraction", cpu(0.5), "must be of type integer"),
    refused("profile-quantity-of-words", cpu("two"), "should match"),
    refused("profile-quantity-negative", cpu("-1"), "should match"),
    refused("profile-resources-of-no-stage", profile(resources={"sleep": {}}), 'unknown field "spec.resources.sleep"'),
    accepted("profile-scratch", profile(scratch={"sizeLimit": "500Mi"})),
    refused("profile-scratch", profile(scratch={"sizeLimit": "500MB"}), "should match"),
    accepted("profile-gpu", profile(gpu={"resourceName": "amd.com/gpu", "runtimeClassName": "amd"})),
    refused("profile-gpu-without-domain", profile(gpu={"resourceName": "gpu"}), "should match"),
    accepted("profile-env", profile(env=[{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}])),
    refused(
        "profile-env-of-atoll", profile(env=[{"name": "ATOLL_STAGE_INPUT", "value": "{}"}]), "are set by the operator"
    ),
    refused(
        "profile-env-twice", profile(env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]), "Duplicate value"
    ),
    refused(
        "profile-env-from-a-secret",
        profile(env=[{"name": "A", "value": "", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
        'unknown field "spec.env[0].valueFrom"',
    ),
    refused("profile-env-name", profile(env=[{"name": "1A", "value": ""}]), "should match"),
    accepted("profile-toleration", profile(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}])),
    refused(
        "profile-toleration",
        profile(tolerations=[{"key": "gpu", "operator": "Exists", "value": "x"}]),
        "a toleration with operator: Exists takes no value",
    ),
    accepted("profile-labels", profile(propagateLabels=["kueue.x-k8s.io/queue-name", "team"])),
    refused("profile-labels-of-atoll", profile(propagateLabels=["atoll.dev/run"]), "are set by the operator"),
    refused("profile-labels-twice", profile(propagateLabels=["a", "a"]), "Duplicate value"),
    accepted("profile-estimate", profile(estimate={"secondsPerStep": "0.5"})),
    refused("profile-estimate-0", profile(estimate={"secondsPerStep": "0.0"}), "must be above 0"),
    refused("profile-estimate-of-words", profile(estimate={"secondsPerStep": "fast"}), "should match"),
    refused("profile-estimate-without-steps", profile(estimate={"otherSeconds": 5}), "Required value"),
    refused("profile-max-workers-17", profile(limits={"maxWorkers": 17}), "less than or equal to 16"),
    refused("profile-max-shards-17", profile(limits={"maxShards": 17}), "less than or equal to 16"),
    accepted(
        "profile-limits",
        profile(limits={"maxSteps": 5, "maxWorkers": 16, "maxShards": 16, "dataset": {"archiveBytes": 1}}),
    ),
    refused("profile-limits-0", profile(limits={"dataset": {"members": 0}}), "greater than or equal to 1"),
    refused("profile-concurrent-0", profile(maxConcurrentRuns=0), "greater than or equal to 1"),
    refused("profile-pull-policy", profile(imagePullPolicy="Sometimes"), 'Unsupported value: "Sometimes"'),
    accepted("profile-changes", profile(maxConcurrentRuns=5), old=PROFILE),
)
