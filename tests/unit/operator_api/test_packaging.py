"""A built package has the CRDs and the pages of the documentation inside, and finds them there."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_built_package_reads_its_own_crds_and_pages(tmp_path: Path) -> None:
    build = [sys.executable, "-W", "ignore", "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=55)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from atoll_operator.api import crds\n"
        "assert len(crds.definitions()) == 6\n"
        "from atoll_cli import pages\n"
        "assert pages.section('QualityGateFailed')\n"
        "print(crds.folder())\n"
        "print(pages.__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.splitlines() == [
        str(tmp_path / "atoll_operator" / "api" / "crds"),
        str(tmp_path / "atoll_cli" / "pages.py"),
    ]
    assert (tmp_path / "atoll_cli" / "docs" / "troubleshooting.md").is_file()


def test_the_source_package_has_what_the_built_one_takes() -> None:
    listed = (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines()
    assert {"include crds/*.yaml", "include docs/*.md"} <= set(listed)
