"""The Jobs of a run against golden files, and properties of all of them."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from atoll_contract.document import replace
from atoll_contract.errors import Reason, SpecError
from atoll_contract.keys import RunRef
from atoll_contract.stage import ENV_HANDOVER_DIR, ENV_INPUT, CompilePolicy, Stage, StageInput
from atoll_contract.stage_result import Artifact
from atoll_operator.api.decode import object_store, training_profile, training_run
from atoll_operator.api.types import CompileTarget, Decimal, Resources, ServiceAccounts, TargetQuality
from atoll_operator.api.validation import check
from atoll_operator.jobs.manifest import (
    FOLLOWING_LABEL,
    HANDOVER_DIR,
    build_job,
    build_worker_objects,
    escaped,
    job_name,
    parse_following,
    unescaped,
)
from atoll_operator.jobs.stage_input import Work, stage_input
from atoll_operator.lifecycle.inputs import profile_view
from atoll_operator.lifecycle.model import AttemptNumber, StageAttempt

GOLDEN = Path(__file__).parents[2] / "golden"
RUN = RunRef("team-190", "reefscape-note", "7b1e0000-0000-4000-8000-000000000001")
SHA = "a" * 64

RUN_DOCUMENT = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: reefscape-note, namespace: team-190 }
spec:
  datasets:
    - key: datasets/team-190/reefscape.tar
    - { key: older/, objectStoreRef: { name: archive } }
  conversion: { rename: [{ from: "$(HOME) $$", to: note }] }
  training: { initFrom: { type: random }, steps: 500 }
  quality: { minAP50: "0.5", minMappedPercent: "95" }
  publish: { model: reefscape-note }
"""
PROFILE_DOCUMENT = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingProfile
metadata: { name: default }
spec:
  allowTags: true
  images:
    convert: r.example/convert:1
    train: r.example/train:1
    trainGPU: r.example/train-gpu:1
    compile: r.example/compile:1
    publish: r.example/convert:1
  imagePullSecrets: [{ name: regcred }]
  resources:
    train: { requests: { cpu: "2", memory: 4Gi }, limits: { memory: 8Gi } }
  scratch: { sizeLimit: 20Gi }
  gpu: { resourceName: nvidia.com/gpu, runtimeClassName: nvidia }
  priorityClassName: training
  nodeSelector: { kubernetes.io/os: linux }
  tolerations: [{ key: nvidia.com/gpu, operator: Exists, effect: NoSchedule }]
  env: [{ name: HTTPS_PROXY, value: "http://proxy:3128" }, { name: ATOLL_STAGE_INPUT, value: "mine" }]
  propagateLabels: [kueue.x-k8s.io/queue-name, team]
"""
STORES = """
apiVersion: atoll.dev/v1alpha1
kind: ObjectStore
metadata: { name: default, namespace: team-190 }
spec:
  bucket: frc
  prefix: atoll/
  endpoint: https://minio.example:9000
  credentials: { secretRef: { name: s3 } }
  publishCredentialsRef: { name: s3-publish }
  signingKeyRef: { name: signing, key: ed25519.pem }
  caBundleRef: { name: ca, key: ca.crt }
---
apiVersion: atoll.dev/v1alpha1
kind: ObjectStore
metadata: { name: archive, namespace: team-190 }
spec: { bucket: old, credentials: { anonymous: true } }
"""


def document(text: str) -> dict[str, Any]:
    checked = check(yaml.safe_load(text))
    return dict(checked.value)


def work(**changes: Any) -> Work:
    stores = [document(text) for text in STORES.split("---")]
    base = Work(
        run=RUN,
        spec=training_run(document(RUN_DOCUMENT)),
        profile=training_profile(document(PROFILE_DOCUMENT)),
        stores={item["metadata"]["name"]: object_store(item) for item in stores},
        labels={"kueue.x-k8s.io/queue-name": "gpu", "team": "190", "atoll.dev/run-uid": "forged", "other": "x"},
        provenance={"specDigest": SHA, "seed": "0"},
    )
    return replace(base, **changes)


def work_of(case: str, **changes: Any) -> Work:
    """The work of a case; those with "workers" in their name are of a run with two."""
    base = work(**changes)
    if "workers" not in case:
        return base
    return replace(base, spec=replace(base.spec, training=replace(base.spec.training, workers=2)))


def attempt(stage: Stage, **changes: Any) -> StageAttempt:
    dataset = Artifact("dataset", f"cache/team-190/datasets/{SHA}/dataset.json", SHA, 4711)
    upstream = {Stage.CONVERT: (dataset,)} if stage is not Stage.CONVERT else {}
    base = StageAttempt(stage, 2, upstream, 45_000, "cpu", 3 if stage is Stage.PUBLISH else None)
    return replace(base, **changes)


EXPORT_NEXT = (AttemptNumber(Stage.EXPORT, 1),)
PUBLISH_NEXT = (AttemptNumber(Stage.PUBLISH, 2),)
# The Jobs of a run, and those of stages that are tried again or have no compiler before them.
CASES = {
    "convert": attempt(Stage.CONVERT),
    "retraining": attempt(Stage.TRAIN, following=EXPORT_NEXT),
    "retraining-gpu": attempt(Stage.TRAIN, following=EXPORT_NEXT, accelerator="gpu"),
    "workers": attempt(Stage.TRAIN),
    "workers-gpu": attempt(Stage.TRAIN, accelerator="gpu"),
    "publishing": attempt(Stage.COMPILE, following=PUBLISH_NEXT, version=3),
    "export": attempt(Stage.EXPORT),
    "compile": attempt(Stage.COMPILE),
    "publish": attempt(Stage.PUBLISH),
}
SHARDS = 3


def pod_of(case: str, **changes: Any) -> dict[str, Any]:
    spec: dict[str, Any] = build_job(work_of(case, **changes), CASES[case])["spec"]["template"]["spec"]
    return spec


def containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


@pytest.mark.parametrize("case", CASES)
def test_a_job_equals_its_golden_file(case: str) -> None:
    written = yaml.safe_dump(build_job(work_of(case), CASES[case]), sort_keys=False, width=120)
    path = GOLDEN / f"job-{case}.yaml"
    if os.environ.get("ATOLL_GOLDEN") == "write":
        path.write_text(written, encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == yaml.safe_load(written), "see make golden"


def test_a_sharded_conversion_is_an_indexed_job_that_index_0_decides() -> None:
    from kubernetes.client import V1Job

    base = work()
    sharded = replace(base, spec=replace(base.spec, conversion=replace(base.spec.conversion, shards=SHARDS)))
    job = build_job(sharded, CASES["convert"])
    V1Job.model_validate(job)
    written = yaml.safe_dump(job, sort_keys=False, width=120)
    path = GOLDEN / "job-convert-sharded.yaml"
    if os.environ.get("ATOLL_GOLDEN") == "write":
        path.write_text(written, encoding="utf-8")
    assert yaml.safe_load(path.read_text(encoding="utf-8")) == job, "see make golden"
    assert (job["spec"]["completionMode"], job["spec"]["completions"], job["spec"]["parallelism"]) == ("Indexed", 3, 3)
    assert job["spec"]["successPolicy"] == {"rules": [{"succeededIndexes": "0"}]}
    # The other Jobs of the run, and a conversion in one shard, are what they were.
    assert build_job(sharded, CASES["retraining"]) == build_job(base, CASES["retraining"])
    one = replace(base, spec=replace(base.spec, conversion=replace(base.spec.conversion, shards=1)))
    assert build_job(one, CASES["convert"])["spec"]["completions"] == 1
    assert "completionMode" not in build_job(one, CASES["convert"])["spec"]


@pytest.mark.parametrize("case", CASES)
def test_a_job_fits_the_type_of_the_kubernetes_client(case: str) -> None:
    from kubernetes.client import V1Job

    V1Job.model_validate(build_job(work_of(case), CASES[case]))


@pytest.mark.parametrize("case", CASES)
def test_every_pod_passes_pod_security_restricted(case: str) -> None:
    pod = pod_of(case)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert {kind for volume in pod["volumes"] for kind in volume if kind != "name"} <= {
        "emptyDir",
        "secret",
        "configMap",
    }
    for container in containers_of(pod):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)


@pytest.mark.parametrize("case", CASES)
def test_each_process_reads_the_stage_input(case: str) -> None:
    containers = containers_of(pod_of(case))
    earlier: list[Stage] = []
    for container, number in zip(containers, CASES[case].stages, strict=True):
        env = {item["name"]: item.get("value", "") for item in container["env"]}
        own = replace(CASES[case], stage=number.stage, attempt=number.attempt, following=())
        given = StageInput.from_env({ENV_INPUT: kubelet(env[ENV_INPUT])})
        assert replace(given, worker_addresses=None) == stage_input(work_of(case), own, handed_over=tuple(earlier))
        assert given.handed_over == (tuple(earlier) or None)
        assert container["command"][-1] == f"atoll_stages.{number.stage}"
        assert container["name"] == number.stage
        earlier.append(number.stage)


def kubelet(value: str) -> str:
    """An environment literal as the kubelet expands it (third_party/forked/golang/expansion)."""
    return "".join(_expanded(value))


def _expanded(value: str) -> Iterator[str]:
    at = 0
    while at < len(value):
        pair = value[at : at + 2]
        if pair == "$$":
            yield "$"
            at += 2
        elif pair == "$(" and ")" in value[at:]:
            yield "EXPANDED"
            at = value.index(")", at) + 1
        else:
            yield value[at]
            at += 1


@pytest.mark.parametrize("text", ["$(HOME)", "$$(HOME)", "a$b", "$", "$$", "price: 5$ $(x", ""])
def test_text_of_users_is_never_expanded(text: str) -> None:
    assert kubelet(escaped(text)) == text
    assert unescaped(escaped(text)) == text


def secrets_of(pod: dict[str, Any], container: dict[str, Any]) -> set[str]:
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    return {item["secret"]["secretName"] for item in pod["volumes"] if "secret" in item and item["name"] in mounted}


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_files_and_only_where_they_are_needed(case: str) -> None:
    pod = pod_of(case)
    for container in containers_of(pod):
        publishes = container["name"] == "publish"
        assert secrets_of(pod, container) == ({"s3-publish", "signing"} if publishes else {"s3"})
    assert "secretKeyRef" not in str(pod)


@pytest.mark.parametrize("case", ["retraining", "publishing"])
def test_a_stage_sees_of_the_one_before_it_the_result_alone_and_cannot_change_it(case: str) -> None:
    pod = pod_of(case)
    (first, second) = containers_of(pod)
    writable = [
        {(mount["name"], mount["subPath"]) for mount in item["volumeMounts"] if not mount.get("readOnly")}
        for item in (first, second)
    ]
    assert not writable[0] & writable[1]
    handover = {"name": "tmp", "mountPath": HANDOVER_DIR, "subPath": "handover"}
    assert handover in first["volumeMounts"]
    assert handover | {"readOnly": True} in second["volumeMounts"]
    assert all({"name": ENV_HANDOVER_DIR, "value": HANDOVER_DIR} in item["env"] for item in (first, second))


def test_publish_lends_its_service_account_to_nobody() -> None:
    base = work()
    profile = replace(base.profile, service_accounts=ServiceAccounts(stage="stage", publish="publisher"))
    assert pod_of("publish", profile=profile)["serviceAccountName"] == "publisher"
    assert pod_of("compile", profile=profile)["serviceAccountName"] == "stage"
    view = profile_view("default", profile, revision="r", digest="d", gpu_offered=None)
    assert view.has_publish_service_account
    assert not profile_view(
        "default", base.profile, revision="r", digest="d", gpu_offered=None
    ).has_publish_service_account


@pytest.mark.parametrize("case", CASES)
def test_the_label_tells_the_stages_that_follow(case: str) -> None:
    labels = build_job(work(), CASES[case])["metadata"]["labels"]
    assert parse_following(labels.get(FOLLOWING_LABEL, "")) == CASES[case].following


@pytest.mark.parametrize("text", ["export", "export-", "export-x", "shell-1", "export-1.", ".", "export-1-2"])
def test_a_label_that_atoll_does_not_write_is_refused(text: str) -> None:
    assert parse_following(text) is None


def test_a_tenants_labels_never_replace_atolls_own() -> None:
    job = build_job(work(), CASES["retraining"])
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpu"
    assert job["metadata"]["labels"]["atoll.dev/run-uid"] == RUN.uid
    assert "other" not in job["metadata"]["labels"]
    assert "kueue.x-k8s.io/queue-name" not in job["spec"]["template"]["metadata"]["labels"]
    assert job["spec"]["template"]["metadata"]["labels"]["team"] == "190"


def test_the_profiles_environment_cannot_replace_the_input() -> None:
    container = build_job(work(), CASES["convert"])["spec"]["template"]["spec"]["containers"][0]
    names = [item["name"] for item in container["env"]]
    assert names.count(ENV_INPUT) == 1
    assert "HTTPS_PROXY" in names


def test_only_a_gpu_train_stage_asks_for_the_gpu() -> None:
    gpu = pod_of("retraining-gpu")
    (train,), (export,) = gpu["initContainers"], gpu["containers"]
    assert train["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert "nvidia.com/gpu" not in str(export["resources"])
    assert gpu["runtimeClassName"] == "nvidia"
    assert (train["image"], export["image"]) == ("r.example/train-gpu:1", "r.example/train:1")
    cpu = pod_of("retraining")
    assert "nvidia.com/gpu" not in str([item["resources"] for item in containers_of(cpu)])
    assert "runtimeClassName" not in cpu


@pytest.mark.parametrize("case", ["compile", "publishing"])
def test_compile_runs_on_amd64(case: str) -> None:
    assert pod_of(case)["nodeSelector"] == {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}


def test_a_target_of_several_has_a_job_an_image_and_a_folder_of_its_own() -> None:
    base = work()
    quality = TargetQuality(Decimal(0.02), Decimal(90))
    targets = (
        CompileTarget("edgetpu", CompilePolicy.BEST_EFFORT),
        CompileTarget("rknn", CompilePolicy.REQUIRED, "rk3566", quality),
        CompileTarget("qnn", CompilePolicy.BEST_EFFORT),
    )
    images = replace(base.profile.images, compile_rknn="r.example/rknn:1")
    base = replace(base, spec=replace(base.spec, compile=targets), profile=replace(base.profile, images=images))
    jobs = {item.target: build_job(base, attempt(Stage.COMPILE, target=item.target)) for item in targets}
    assert len({job["metadata"]["name"] for job in jobs.values()}) == 3
    rknn, qnn = jobs["rknn"], jobs["qnn"]
    assert rknn["metadata"]["name"].startswith(f"{RUN.name}-rknn-2-")
    assert rknn["metadata"]["labels"]["atoll.dev/target"] == "rknn"
    assert rknn["spec"]["template"]["metadata"]["labels"]["atoll.dev/target"] == "rknn"
    pods = [job["spec"]["template"]["spec"] for job in (rknn, qnn)]
    assert [pod["containers"][0]["image"] for pod in pods] == ["r.example/rknn:1", "r.example/compile:1"]
    assert [pod["nodeSelector"]["kubernetes.io/arch"] for pod in pods] == ["amd64", "amd64"]
    given = stage_input(base, attempt(Stage.COMPILE, target="rknn"))
    assert given.prefix("pod").endswith("/compile-rknn/a2-pod/")
    section = given.compile
    assert section is not None
    assert (section.target, section.chip, section.policy) == ("rknn", "rk3566", CompilePolicy.REQUIRED)
    assert (section.max_ap50_drop, section.min_mapped_percent, section.timeout_seconds) == (0.02, 90.0, 7200)
    other = stage_input(base, attempt(Stage.COMPILE, target="qnn")).compile
    assert other is not None
    # The run's own gate on the mapping is the Edge TPU's.
    assert (other.min_mapped_percent, other.max_ap50_drop) == (None, None)


@pytest.mark.parametrize(
    ("targets", "wanted"),
    [
        (("edgetpu",), None),
        (("edgetpu", "rknn"), True),
        (("qnn",), True),
    ],
)
def test_export_leaves_a_float_model_only_for_other_targets(targets: tuple[str, ...], wanted: bool | None) -> None:
    base = work()
    chosen = tuple(CompileTarget(name, CompilePolicy.BEST_EFFORT) for name in targets)
    base = replace(base, spec=replace(base.spec, compile=chosen))
    export = stage_input(base, CASES["export"]).export
    assert export is not None
    assert export.for_targets is wanted
    disabled = tuple(replace(item, policy=CompilePolicy.DISABLED) for item in chosen)
    export = stage_input(replace(base, spec=replace(base.spec, compile=disabled)), CASES["export"]).export
    assert export is not None
    assert export.for_targets is None


def test_an_amount_that_is_a_number_is_written_as_text() -> None:
    base = work()
    profile = replace(base.profile, resources={Stage.CONVERT: Resources(limits={"cpu": 2})})
    pod = build_job(replace(base, profile=profile), CASES["convert"])["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {"limits": {"cpu": "2"}}


def test_a_missing_image_is_an_error_that_names_it() -> None:
    base = work()
    bare = replace(base, profile=replace(base.profile, images=replace(base.profile.images, train_gpu=None)))
    with pytest.raises(SpecError, match=r"no image spec\.images\.trainGPU") as caught:
        build_job(bare, CASES["retraining-gpu"])
    assert caught.value.reason is Reason.INVALID_SPEC


def test_names_fit_into_a_label_and_differ_by_uid() -> None:
    name = job_name("r" * 40, RUN.uid, Stage.CONVERT, 100)
    assert len(name) <= 63
    assert len(job_name("r" * 40, RUN.uid, Stage.COMPILE, 100, target="edgetpu")) <= 63
    assert name != job_name("r" * 40, RUN.uid.replace("1", "2"), Stage.CONVERT, 100)


def test_the_store_is_the_lock_for_versions_only_without_an_api_server() -> None:
    on_cluster = stage_input(work(), CASES["publish"]).publish
    embedded = stage_input(work(store_is_lock=True), CASES["publish"]).publish
    assert on_cluster is not None
    assert embedded is not None
    assert (on_cluster.store_is_lock, embedded.store_is_lock) == (False, True)


def test_compile_names_its_target_and_policy() -> None:
    base = work()
    spec = replace(base.spec, compile=(CompileTarget("edgetpu", CompilePolicy.REQUIRED),))
    section = stage_input(replace(base, spec=spec), CASES["compile"]).compile
    assert section is not None
    assert (section.policy, section.min_mapped_percent) == (CompilePolicy.REQUIRED, 95.0)


def test_the_workers_of_a_run_know_each_other_by_name() -> None:
    job = build_job(work_of("workers"), CASES["workers"])
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    env = {item["name"]: item.get("value", "") for item in pod["containers"][0]["env"]}
    addresses = StageInput.from_env({ENV_INPUT: kubelet(env[ENV_INPUT])}).worker_addresses
    service, policy = build_worker_objects(work_of("workers"), CASES["workers"])
    host = f"{service['metadata']['name']}.team-190.svc:2222"
    assert addresses == (f"{name}-0.{host}", f"{name}-1.{host}")
    assert pod["subdomain"] == service["metadata"]["name"] == policy["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True


def test_the_longest_names_of_workers_fit_a_host_name() -> None:
    name = job_name("r" * 40, RUN.uid, Stage.TRAIN, 99)
    assert len(f"{name}-15") <= 63


def test_only_workers_of_the_same_run_reach_a_worker() -> None:
    job = build_job(work_of("workers"), CASES["workers"])
    _, policy = build_worker_objects(work_of("workers"), CASES["workers"])
    chosen = policy["spec"]["podSelector"]["matchLabels"]
    assert chosen == {"atoll.dev/run-uid": RUN.uid, "atoll.dev/stage": "train"}
    assert chosen.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {"matchLabels": chosen}}]}]


@pytest.mark.parametrize("case", ["retraining", "export", "publish"])
def test_a_job_with_one_pod_needs_nothing_beside_it(case: str) -> None:
    assert build_worker_objects(work_of(case), CASES[case]) == ()


def test_only_training_has_workers() -> None:
    several = work_of("workers")
    for stage in (Stage.CONVERT, Stage.EXPORT, Stage.COMPILE, Stage.PUBLISH):
        request = attempt(stage, version=3 if stage is Stage.PUBLISH else None)
        assert build_job(several, request)["spec"]["completions"] == 1
        assert build_worker_objects(several, request) == ()
