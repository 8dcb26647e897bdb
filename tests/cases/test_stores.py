"""Stores whose credentials cannot be had: the command line and a stage tell it in one line and never crash."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from atoll_contract import keys
from atoll_contract.convert_spec import ConvertSpec, DatasetSource
from atoll_contract.document import to_json
from atoll_contract.errors import ExitCode
from atoll_contract.stage import ENV_INPUT, ENV_POD_UID, ENV_TERMINATION_LOG, ENV_WORK_DIR, Stage, StageInput
from atoll_contract.stage_result import parse_result
from atoll_contract.store_spec import StoreSpec, StoreType
from support.stub_server import stub_server

STORE = """\
apiVersion: atoll.dev/v1alpha1
kind: ObjectStore
metadata: { name: default, namespace: local }
spec:
  bucket: frc
  region: eu-central-1
  credentials:
    workloadIdentity: {}
"""
SSO = """\
[profile team190]
sso_session = s
sso_account_id = 1
sso_role_name = r
region = eu-central-1
[sso-session s]
sso_region = eu-central-1
sso_start_url = https://example.invalid/start
"""
REFUSED = """\
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>
<Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error>
</ErrorResponse>
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The variables of a machine without credentials but those in `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    own = {"HOME": str(folder), "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": str(folder / "aws-config")}
    return kept | own | more


@pytest.mark.parametrize("profile", ["team190", "team191"])
def test_o1_a_command_says_how_to_log_in(tmp_path: Path, profile: str) -> None:
    (tmp_path / "store.yaml").write_text(STORE)
    (tmp_path / "aws-config").write_text(SSO)
    result = subprocess.run(
        [sys.executable, "-P", "-m", "atoll_cli.main", "releases", "-f", "store.yaml"],
        env=environment(tmp_path, AWS_PROFILE=profile, PYTHONSAFEPATH="1"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert result.returncode == ExitCode.STORAGE_FORBIDDEN
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    words = "aws sso login --profile team190" if profile == "team190" else "~/.aws has team190"
    assert words in result.stderr


@pytest.mark.parametrize(
    ("status", "token", "code"),
    [(403, True, ExitCode.STORAGE_FORBIDDEN), (403, False, ExitCode.STORAGE_FORBIDDEN)],
)
def test_o2_a_stage_tells_what_the_identity_service_said(tmp_path: Path, status: int, token: bool, code: int) -> None:
    if token:
        (tmp_path / "token").write_text("an.identity.token")
    document = StageInput(
        stage=Stage.CONVERT,
        attempt=1,
        run=keys.RunRef("team", "run", "uid-1"),
        store=StoreSpec(StoreType.S3, bucket="frc", region="eu-central-1", patience_seconds=1),
        convert=ConvertSpec(sources=(DatasetSource("datasets/team/a.tar"),)),
    )
    (tmp_path / "work").mkdir()
    with stub_server(status, REFUSED) as sts:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "atoll_stages.convert"],
            env=environment(
                tmp_path,
                AWS_ROLE_ARN="arn:aws:iam::123456789012:role/atoll",
                AWS_ROLE_SESSION_NAME="session",
                AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
                AWS_ENDPOINT_URL_STS=sts.url,
                PYTHONSAFEPATH="1",
                **{
                    ENV_INPUT: to_json(document).decode(),
                    ENV_POD_UID: "pod-1",
                    ENV_TERMINATION_LOG: str(tmp_path / "message"),
                    ENV_WORK_DIR: str(tmp_path / "work"),
                },
            ),
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    result = parse_result((tmp_path / "message").read_bytes())
    assert done.returncode == code
    assert "AssumeRoleWithWebIdentity" in result.message
    assert "Traceback" not in done.stdout + done.stderr
    assert result.reason.value == "StorageForbidden"
