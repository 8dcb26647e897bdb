"""Credentials that cannot be had end as one line with a reason, whichever way they were sought."""

import sys
from pathlib import Path

import pytest

from atoll_contract.errors import Reason
from atoll_contract.store.base import StoreError
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store.s3_client import connect
from atoll_contract.store.s3_credentials import FileCredentials, credentials_on_this_machine
from atoll_contract.store_spec import StoreSpec, StoreType
from support.s3 import write_credentials
from support.stub_server import stub_server

ROLE = "arn:aws:iam::123456789012:role/atoll"


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No credentials of this machine, and no metadata service of a cloud."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    return monkeypatch


def store() -> S3Store:
    return S3Store(StoreSpec(StoreType.S3, bucket="frc", region="eu-central-1"), backoff=Backoff(total=0))


def failure() -> StoreError:
    with pytest.raises(StoreError) as caught:
        store().get("a")
    assert "\n" not in caught.value.message
    return caught.value


def web_identity(monkeypatch: pytest.MonkeyPatch, folder: Path, sts: str, *, token: bool = True) -> None:
    if token:
        (folder / "token").write_text("an.identity.token")
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    monkeypatch.setenv("AWS_ROLE_SESSION_NAME", "session")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts)


def sts_error(code: str) -> str:
    return (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>refused by the test</Message></Error></ErrorResponse>"
    )


@pytest.mark.parametrize(
    ("status", "code", "reason", "words"),
    [
        (403, "AccessDenied", Reason.STORAGE_FORBIDDEN, "trust policy"),
        (400, "InvalidIdentityToken", Reason.STORAGE_FORBIDDEN, "trust policy"),
        (400, "ExpiredTokenException", Reason.CREDENTIALS_EXPIRED, "renew it"),
        (400, "IDPCommunicationError", Reason.STORAGE_UNAVAILABLE, "does not answer"),
        (503, "ServiceUnavailable", Reason.STORAGE_UNAVAILABLE, "does not answer"),
    ],
)
def test_an_sts_that_refuses_the_role_is_told(
    bare_machine: pytest.MonkeyPatch, tmp_path: Path, status: int, code: str, reason: Reason, words: str
) -> None:
    with stub_server(status, sts_error(code)) as sts:
        web_identity(bare_machine, tmp_path, sts.url)
        error = failure()
    assert error.reason is reason
    assert "AssumeRoleWithWebIdentity" in error.message
    assert words in error.message
    assert sts.requests


def test_an_sts_that_cannot_be_reached_may_answer_later(bare_machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with stub_server(200) as gone:
        pass
    web_identity(bare_machine, tmp_path, gone.url)
    error = failure()
    assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert "AssumeRoleWithWebIdentity" in error.message


def test_a_missing_token_file_is_named(bare_machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    web_identity(bare_machine, tmp_path, "http://127.0.0.1:1", token=False)
    error = failure()
    assert error.reason is Reason.STORAGE_FORBIDDEN
    assert str(tmp_path / "token") in error.message
    assert "identity token" in error.message


def test_an_sso_session_that_has_ended_says_how_to_log_in(bare_machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[profile team190]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\nregion = eu-central-1\n"
        "[sso-session s]\nsso_region = eu-central-1\nsso_start_url = https://example.invalid/start\n"
    )
    bare_machine.setenv("AWS_PROFILE", "team190")
    error = failure()
    assert error.reason is Reason.STORAGE_FORBIDDEN
    assert "aws sso login --profile team190" in error.message


@pytest.mark.parametrize("program", ["import sys; sys.exit('no key today')", "print('{}')", "print('text')"])
def test_a_credential_process_that_fails_is_told(
    bare_machine: pytest.MonkeyPatch, tmp_path: Path, program: str
) -> None:
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "config").write_text(f"[profile p]\ncredential_process = {sys.executable} {tmp_path / 'program.py'}\n")
    bare_machine.setenv("AWS_PROFILE", "p")
    error = failure()
    assert error.reason is Reason.STORAGE_FORBIDDEN
    assert "cannot get credentials" in error.message


def test_a_profile_that_does_not_exist_is_named_with_those_that_do(
    bare_machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[profile team190]\nregion = eu-central-1\n")
    bare_machine.setenv("AWS_PROFILE", "team191")
    for seek in (lambda: store().get("a"), credentials_on_this_machine):
        with pytest.raises(StoreError, match=r"team191.*AWS_PROFILE.*team190") as caught:
            seek()
        assert caught.value.reason is Reason.STORAGE_FORBIDDEN


def test_a_store_with_its_own_keys_needs_no_profile(bare_machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare_machine.setenv("AWS_PROFILE", "team191")
    folder = write_credentials(tmp_path / "keys", "AKIDEXAMPLE", "secret")
    connection = connect(
        StoreSpec(StoreType.S3, bucket="frc", endpoint="http://127.0.0.1:1", credentials_dir=str(folder))
    )
    connection.check_credentials("s3://frc/")
    assert connection.secrets() == {"AKIDEXAMPLE", "secret"}


def test_the_keys_of_a_profile_are_found(bare_machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert not credentials_on_this_machine()
    (tmp_path / "credentials").write_text("[p]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n")
    bare_machine.setenv("AWS_PROFILE", "p")
    assert credentials_on_this_machine()


def test_key_files_of_windows_editors_are_read(tmp_path: Path) -> None:
    folder = write_credentials(tmp_path, "AKIDEXAMPLE", "secret")
    (folder / "AWS_ACCESS_KEY_ID").write_bytes("\ufeffAKIDEXAMPLE\r\n".encode())
    assert FileCredentials(folder).access_key == "AKIDEXAMPLE"


@pytest.mark.parametrize("data", ["AKID\n".encode("utf-16"), b"AKID\x00", b"AKID\nsecret\n", b"\xef\xbb\xbf\r\n"])
def test_a_key_file_that_holds_no_key_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    folder = write_credentials(tmp_path, "AKIDEXAMPLE", "secret")
    (folder / "AWS_ACCESS_KEY_ID").write_bytes(data)
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID") as caught:
        FileCredentials(folder).get_frozen_credentials()
    assert caught.value.reason is Reason.STORAGE_FORBIDDEN
