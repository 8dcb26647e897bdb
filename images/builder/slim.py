"""`slim.py MODULE…`: removes from the environment it runs in what Atoll never loads, and compiles what it does load.

Runs inside image builds after `pip install --no-compile`; the modules are imported, which leaves bytecode for exactly
what they load (the root of a pod is read-only, so a start without it would compile each time).
"""

import importlib
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# Below site-packages. The asyncio twin of the Kubernetes client; headers for building custom operations.
UNUSED = ("kubernetes/aio", "tensorflow/include", "numpy/_core/include")
# Of botocore's descriptions of 400 services, those of S3 and of the ways to an identity.
SERVICES = frozenset({"s3", "sts", "sso", "sso-oidc", "signin"})


def unused(site: Path) -> Iterator[Path]:
    yield from (site / part for part in UNUSED)
    data = site / "botocore" / "data"
    if data.is_dir():
        yield from (folder for folder in data.iterdir() if folder.is_dir() and folder.name not in SERVICES)
    for name in ("numpy", "botocore", "boto3"):
        yield from (site / name).rglob("tests")


def slim(site: Path) -> int:
    """Removes what is unused; number of folders that were there."""
    found = [folder for folder in list(unused(site)) if folder.is_dir()]
    for folder in found:
        shutil.rmtree(folder, ignore_errors=True)
    return len(found)


def main(modules: list[str]) -> int:
    count = slim(Path(sysconfig.get_path("purelib")))
    for module in modules:
        importlib.import_module(module)
    print(f"removed {count} unused folders, compiled {len(sys.modules)} modules")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
