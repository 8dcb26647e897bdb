"""ObjectStores."""

from typing import Any

from support.crd_cases.case import ABSENT, Case, Document, accepted, changed, refused

STORE: Document = {
    "apiVersion": "atoll.dev/v1alpha1",
    "kind": "ObjectStore",
    "metadata": {"name": "case"},
    "spec": {"bucket": "frc", "credentials": {"secretRef": {"name": "s3"}}},
}
_ONE = "give exactly one of secretRef, workloadIdentity and anonymous"


def store(**spec: Any) -> Document:
    return changed(STORE, {"spec": spec})


def credentials(**fields: Any) -> Document:
    return store(credentials={"secretRef": ABSENT, **fields})


def at(endpoint: str, **spec: Any) -> Document:
    return store(endpoint=endpoint, **spec)


STORE_CASES: tuple[Case, ...] = (
    accepted("store", STORE),
    accepted("store-name", changed(STORE, {"metadata": {"name": "a" * 63}})),
    refused("store-name", changed(STORE, {"metadata": {"name": "a.b"}}), "metadata.name must be at most 63 characters"),
    accepted("store-workload-identity", credentials(workloadIdentity={})),
    accepted("store-anonymous", credentials(anonymous=True)),
    refused("store-without-credentials", credentials(), _ONE),
    refused("store-with-two-credentials", store(credentials={"anonymous": True}), _ONE),
    refused("store-with-two-identities", credentials(anonymous=True, workloadIdentity={}), _ONE),
    refused("store-not-anonymous", credentials(anonymous=False), "Unsupported value: false"),
    refused("store-with-keys-in-it", credentials(accessKey="AKIA"), 'unknown field "spec.credentials.accessKey"'),
    refused(
        "store-secret-without-name",
        store(credentials={"secretRef": {"name": ABSENT}}),
        "secretRef.name: Required value",
    ),
    refused(
        "store-secret-elsewhere",
        credentials(secretRef={"name": "s3", "namespace": "other"}),
        'unknown field "spec.credentials.secretRef.namespace"',
    ),
    accepted("store-prefix", store(prefix="atoll/team-190/")),
    accepted("store-without-prefix", store(prefix="")),
    refused("store-prefix-without-slash", store(prefix="atoll"), "should match"),
    refused("store-prefix-absolute", store(prefix="/atoll/"), "should match"),
    refused("store-prefix-with-parent", store(prefix="atoll/../other/"), 'must not hold the path segments "." or ".."'),
    accepted("store-endpoint", at("http://minio.minio.svc:9000")),
    accepted("store-endpoint-of-ipv6", at("https://[2001:db8::1]:9000/")),
    refused("store-endpoint-without-scheme", at("minio:9000"), "must begin with http:// or https://"),
    refused("store-endpoint-with-password", at("https://user:pass@minio:9000"), "must not hold credentials"),
    refused("store-endpoint-with-path", at("https://minio:9000/frc"), "must be scheme, host and port alone"),
    refused("store-endpoint-with-query", at("https://minio:9000?x=y"), "must be scheme, host and port alone"),
    refused("store-bucket", store(bucket="FRC"), "should match"),
    refused("store-bucket-of-2", store(bucket="ab"), "should be at least 3 char"),
    refused("store-bucket-absent", store(bucket=ABSENT), "spec.bucket: Required value"),
    accepted("store-styles", store(addressingStyle="virtual", checksumMode="whenRequired", region="eu-central-1")),
    refused("store-addressing-style", store(addressingStyle="dns"), 'Unsupported value: "dns"'),
    refused("store-checksum-mode", store(checksumMode="never"), 'Unsupported value: "never"'),
    refused("store-region", store(region="us east"), "should match"),
    accepted("store-ca", at("https://minio:9000", caBundleRef={"name": "ca"})),
    accepted("store-ca-of-a-proxy", store(caBundleRef={"name": "ca", "key": "proxy.crt"})),
    refused("store-ca-without-tls", at("http://minio:9000", caBundleRef={"name": "ca"}), "caBundleRef is of no use"),
    accepted("store-signing", store(signingKeyRef={"name": "signing"}, publishCredentialsRef={"name": "w"})),
    accepted(
        "store-anonymous-signing",
        changed(
            credentials(anonymous=True),
            {"spec": {"signingKeyRef": {"name": "k"}, "publishCredentialsRef": {"name": "w"}}},
        ),
    ),
    refused(
        "store-anonymous-signing",
        changed(credentials(anonymous=True), {"spec": {"signingKeyRef": {"name": "signing"}}}),
        "signingKeyRef needs publishCredentialsRef beside it",
    ),
    refused("store-signing-key", store(signingKeyRef={"name": "signing", "key": "../x"}), "should match"),
    accepted("store-moves", at("https://new.example.org"), old=STORE),
)
