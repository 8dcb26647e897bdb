"""Endpoints as people paste them, and answers of servers that are not the S3 API: each says what to correct."""

from pathlib import Path
from typing import Any

import pytest

from atoll_contract.document import replace
from atoll_contract.errors import Reason, SpecError
from atoll_contract.store.base import ObjectNotFound, StoreError
from atoll_contract.store.retry import Backoff
from atoll_contract.store.s3 import S3Store
from atoll_contract.store.s3_client import connect, is_aws
from atoll_contract.store_spec import StoreSpec, StoreType
from support.s3 import write_credentials
from support.stub_server import stub_server

XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def spec(tmp_path: Path) -> StoreSpec:
    folder = write_credentials(tmp_path / "keys", "AKIDEXAMPLE", "secret")
    return StoreSpec(StoreType.S3, bucket="frc", credentials_dir=str(folder))


def failure(spec: StoreSpec) -> StoreError:
    with pytest.raises(StoreError) as caught:
        S3Store(spec, backoff=Backoff(total=0)).get("models/a")
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("path", ["/frc", "/frc/team", "/?x=1", "/storage/v1/s3"])
def test_an_endpoint_with_a_path_is_refused_by_name(spec: StoreSpec, path: str) -> None:
    with pytest.raises(SpecError, match="scheme, host") as caught:
        connect(replace(spec, endpoint=f"https://minio.example:9000{path}"))
    assert path in caught.value.message


def test_a_path_in_the_environments_endpoint_is_refused_too(spec: StoreSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.example:9000/frc")
    with pytest.raises(SpecError, match="'/frc'"):
        connect(spec)


def test_an_endpoint_may_end_in_a_slash(spec: StoreSpec) -> None:
    assert connect(replace(spec, endpoint="http://minio.example:9000/")).client.meta.endpoint_url


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_environments_endpoint_gets_path_style(
    spec: StoreSpec, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with stub_server(404, XML.format(code="NoSuchKey", message="gone")) as server:
        monkeypatch.setenv(variable, f"http://localhost:{server.port}")
        with pytest.raises(ObjectNotFound):
            S3Store(spec, backoff=Backoff(total=0)).get("models/a")
    assert server.requests == [("GET", "/frc/models/a")]


def test_amazons_own_addresses_keep_the_bucket_in_the_host(spec: StoreSpec) -> None:
    client: Any = connect(replace(spec, region="eu-central-1")).client
    assert is_aws(client.meta.endpoint_url)
    assert client.meta.config.s3 == {"addressing_style": "virtual"}


def test_a_web_console_is_told_from_the_api(spec: StoreSpec) -> None:
    body = XML.format(code="InvalidArgument", message="S3 API Requests must be made to API port.")
    with stub_server(400, body) as server:
        error = failure(replace(spec, endpoint=server.url))
    assert error.reason is Reason.STORE_UNSUITABLE
    assert "console" in error.message


def test_a_web_page_is_no_answer_of_s3(spec: StoreSpec) -> None:
    with stub_server(400, "<!DOCTYPE html><html><body><p>hello</body>", content_type="text/html") as server:
        error = failure(replace(spec, endpoint=server.url))
    assert error.reason in (Reason.STORE_UNSUITABLE, Reason.STORAGE_UNAVAILABLE)
    assert server.url in error.message


def test_https_to_a_plain_server_says_http(spec: StoreSpec) -> None:
    with stub_server(200, "") as server:
        error = failure(replace(spec, endpoint=f"https://127.0.0.1:{server.port}"))
    assert "write http://" in error.message


def test_http_to_a_tls_server_says_https(spec: StoreSpec) -> None:
    with stub_server(400, XML.format(code="400", message="Client sent an HTTP request to an HTTPS server.")) as server:
        error = failure(replace(spec, endpoint=server.url))
    assert error.reason is Reason.STORE_UNSUITABLE
    assert "https://" in error.message


def test_a_403_for_reading_may_mean_that_the_object_is_missing(spec: StoreSpec) -> None:
    body = XML.format(code="AccessDenied", message="Access Denied")
    with stub_server(403, body, headers={"x-amz-request-id": "1"}) as server:
        error = failure(replace(spec, endpoint=server.url))
    assert error.reason is Reason.STORAGE_FORBIDDEN
    assert "no such object" in error.message
    assert "s3:ListBucket" in error.message


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("NoSuchKey", Reason.DATASET_NOT_FOUND),
        ("NoSuchBucket", Reason.BUCKET_NOT_FOUND),
        ("XAdminUserNotFound", Reason.STORAGE_FORBIDDEN),
        ("NoSuchTenant", Reason.STORAGE_FORBIDDEN),
    ],
)
def test_a_404_is_a_missing_object_only_where_its_code_says_so(spec: StoreSpec, code: str, reason: Reason) -> None:
    with stub_server(404, XML.format(code=code, message="said the server")) as server:
        error = failure(replace(spec, endpoint=server.url))
    assert error.reason is reason
    assert code in error.message or isinstance(error, ObjectNotFound)


def test_the_404_of_a_head_is_followed_by_a_get(spec: StoreSpec) -> None:
    with stub_server(404, XML.format(code="NoSuchKey", message="gone")) as server:
        assert S3Store(replace(spec, endpoint=server.url), backoff=Backoff(total=0)).head("models/a") is None
    assert server.requests == [("HEAD", "/frc/models/a"), ("GET", "/frc/models/a")]


@pytest.mark.parametrize(("status", "reason"), [(403, Reason.STORAGE_FORBIDDEN), (503, Reason.STORAGE_UNAVAILABLE)])
def test_a_proxys_own_answer_names_the_proxy(
    spec: StoreSpec, monkeypatch: pytest.MonkeyPatch, status: int, reason: Reason
) -> None:
    with stub_server(status, "") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:word@127.0.0.1:{proxy.port}")
        error = failure(replace(spec, endpoint="http://minio.example:9000"))
    assert error.reason is reason
    assert f"HTTP_PROXY=127.0.0.1:{proxy.port}" in error.message
    assert "NO_PROXY" in error.message
    assert "word" not in error.message


def test_a_proxy_that_is_away_is_named(spec: StoreSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    with stub_server(200) as gone:
        pass
    monkeypatch.setenv("HTTP_PROXY", gone.url)
    error = failure(replace(spec, endpoint="http://minio.example:9000"))
    assert error.reason is Reason.STORAGE_UNAVAILABLE
    assert f"HTTP_PROXY=127.0.0.1:{gone.port}" in error.message
    assert "NO_PROXY" in error.message


def test_a_host_of_no_proxy_does_not_blame_the_proxy(spec: StoreSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with stub_server(403, "") as server:
        error = failure(replace(spec, endpoint=server.url))
    assert "PROXY" not in error.message
