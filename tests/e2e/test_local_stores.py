"""`atoll run` with the real stages on a folder and on a bucket: the same run gives the same data set and model.

    python -P -m pytest -m e2e tests/e2e/test_local_stores.py -s

By hand: it trains twice, and needs the MinIO that `make binaries` builds.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from support.minio import MinioServer

RUN = """
apiVersion: atoll.dev/v1alpha1
kind: TrainingRun
metadata: { name: field }
spec:
  datasets: [{ key: datasets/local/field.tar }]
  model: { architecture: ssd-mobilenet-v2-fpnlite-192, width: "0.35" }
  training: { initFrom: { type: random }, steps: 10, batchSize: 8 }
  publish: { model: field }
"""
STORE = """
---
apiVersion: atoll.dev/v1alpha1
kind: ObjectStore
metadata: { name: default }
spec:
  bucket: atoll-test
  prefix: team/
  endpoint: %s
  credentials: { secretRef: { name: s3 } }
"""

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(3600)]


def digests(folder: Path, text: str, sample: Path, environ: dict[str, str]) -> dict[str, str]:
    """Run `text` in `folder`; the digests of what must not depend on the store."""
    folder.mkdir()
    (folder / "run.yaml").write_text(text)
    command = [sys.executable, "-P", "-m", "atoll_cli.main", "run", "-f", "run.yaml", "--data", str(sample)]
    done = subprocess.run(
        [*command, "-o", "json"],
        cwd=folder,
        env={**os.environ, **environ},
        capture_output=True,
        timeout=1700,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    record = json.loads((folder / "atoll-store/.atoll/engine/local/field/run.json").read_text())
    outputs = {
        f"{stage['name']}/{output['name']}": output["sha256"]
        for stage in record["status"]["stages"]
        for output in stage.get("outputs", [])
    }
    assert Path(document["bundle"]).is_file()
    same = {name: outputs[name] for name in ("convert/labels", "train/weights", "export/model", "publish/bundle")}
    # Of its content; dataset.json itself also names the ETag that the archive has in its store.
    return {"dataset": record["status"]["dataset"]["digest"], **same}


def test_a_folder_and_a_bucket_give_the_same_model(sample_archive: Path, tmp_path: Path) -> None:
    in_folder = digests(tmp_path / "folder", RUN, sample_archive, {})
    with MinioServer() as server:
        keys = {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="atoll-test")
        in_bucket = digests(tmp_path / "bucket", RUN + STORE % server.endpoint, sample_archive, keys)
        listed = client.list_objects_v2(Bucket="atoll-test", Prefix="team/models/")["Contents"]
    for name, digest in in_folder.items():
        print(f"{name}: {digest} {'same' if in_bucket[name] == digest else in_bucket[name]}")
    assert in_bucket == in_folder
    assert "team/models/local/field/v1/manifest.json" in [item["Key"] for item in listed]
    assert not list((tmp_path / "bucket/atoll-store").glob("models/**"))
