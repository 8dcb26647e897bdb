"""The bench's MinIO: it serves, keeps its objects through an outage, and has conditional writes."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from mypy_boto3_s3 import S3Client

from support.minio import MinioServer

pytestmark = pytest.mark.api


@pytest.fixture(scope="module")
def server() -> Iterator[MinioServer]:
    with MinioServer() as running:
        yield running


@pytest.fixture
def client(server: MinioServer) -> S3Client:
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
        config=Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1}),
    )


def test_objects_survive_an_outage(server: MinioServer, client: S3Client) -> None:
    client.create_bucket(Bucket="outage")
    client.put_object(Bucket="outage", Key="a", Body=b"kept")
    server.stop()
    with pytest.raises(botocore.exceptions.EndpointConnectionError):
        client.get_object(Bucket="outage", Key="a")
    server.start()
    assert client.get_object(Bucket="outage", Key="a")["Body"].read() == b"kept"


def test_a_conditional_put_refuses_the_second_writer(client: S3Client) -> None:
    client.create_bucket(Bucket="conditional")
    client.put_object(Bucket="conditional", Key="v1", Body=b"first", IfNoneMatch="*")
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client.put_object(Bucket="conditional", Key="v1", Body=b"second", IfNoneMatch="*")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
