"""What `helm test` runs: the operator answers and leads, the API takes a good run and refuses a bad one (dry run), and
`atoll doctor` finds nothing that keeps runs from working. Not the buckets, which it would try by a pod with a Secret.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
DEADLINE_SECONDS = 90
# Whoever runs the test has other rights than its account.
DOCTOR = ["-P", "-m", "atoll_cli.main", "doctor", "--no-pod", "--skip", "rights"]
RUN = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "helm-test"},
    "spec": {"datasets": [{"key": "datasets/x.tar"}], "publish": {"model": "helm-test"}},
}


def not_ready(metrics_url):
    """What the operator says is wrong; empty: nothing."""
    try:
        with urllib.request.urlopen(metrics_url.replace("/metrics", "/readyz"), timeout=5) as answer:
            answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.read().decode().strip()
    with urllib.request.urlopen(metrics_url, timeout=5) as answer:
        return "" if "\natoll_leader 1.0" in answer.read().decode() else "it does not hold the Lease"


def dry_run(body):
    """HTTP status and message of creating the run without keeping it."""
    with open(f"{ACCOUNT}/token") as token, open(f"{ACCOUNT}/namespace") as namespace:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        path = f"/apis/atoll.dev/v1alpha1/namespaces/{namespace.read()}/trainingruns?dryRun=All"
        headers = {"Authorization": f"Bearer {token.read()}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"https://{host}:{port}{path}", json.dumps(body).encode(), headers)
    context = ssl.create_default_context(cafile=f"{ACCOUNT}/ca.crt")
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.loads(refusal.read()).get("message", "")


def main():
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            problem = not_ready(sys.argv[1])
            if not problem:
                break
        except OSError as error:
            problem = str(error)
        if time.monotonic() > deadline:
            sys.exit(f"the operator at {sys.argv[1]} is not at work: {problem}")
        time.sleep(2)
    print("ok: the operator answers and holds the Lease")
    status, message = dry_run(RUN)
    if status != 201:
        sys.exit(f"a good run was refused: {status} {message}")
    print("ok: a good run is accepted")
    status, message = dry_run(RUN | {"metadata": {"name": "x" * 41}})
    if status != 422:
        sys.exit(f"a name of 41 characters was not refused: {status} {message}")
    print(f"ok: a bad run is refused: {message}", flush=True)
    os.execv(sys.executable, [sys.executable, *DOCTOR])  # noqa: S606


main()
