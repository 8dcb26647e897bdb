"""The rules for a bucket that the page gives are ones that a store takes."""

import json
import re
import secrets
from pathlib import Path

import pytest

from support.minio import MinioServer
from support.s3 import bucket_spec, raw_client

pytestmark = pytest.mark.api

PAGE = Path(__file__).parents[2] / "docs" / "install.md"


def test_a_store_takes_the_rules_and_they_spare_what_releases_need(tmp_path: Path) -> None:
    (found,) = re.findall(r"```json\n(\{.*?\n\})\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    rules = json.loads(found)
    for rule in rules["Rules"]:
        expires = "Expiration" in rule
        assert not expires or rule["Filter"]["Prefix"] in ("atoll/runs/", "atoll/harvest/")
    # MinIO knows no such rule, as the page says.
    rules["Rules"] = [rule for rule in rules["Rules"] if "AbortIncompleteMultipartUpload" not in rule]
    assert len(rules["Rules"]) == 2
    with MinioServer() as server:
        spec = bucket_spec(server, f"test-{secrets.token_hex(6)}", tmp_path / "credentials")
        client = raw_client(spec)
        client.put_bucket_lifecycle_configuration(Bucket=spec.bucket, LifecycleConfiguration=rules)
        stored = client.get_bucket_lifecycle_configuration(Bucket=spec.bucket)["Rules"]
    assert {rule["ID"] for rule in stored} == {rule["ID"] for rule in rules["Rules"]}
