"""Commands that serve both engines, in a folder without a store and on a machine without a cluster."""

import functools
import sys
from pathlib import Path
from typing import Any

import pytest

from atoll_cli import store_access
from atoll_cli.cluster_access import ClusterAccess
from atoll_cli.commands.push import HDF5_SIGNATURE
from atoll_cli.main import main
from atoll_contract.store.base import StoreUnavailable
from atoll_contract.store.retry import Backoff
from support import archives

CONTEXT = (
    b"contexts: [{ name: x, context: { cluster: c, user: u } }]\ncurrent-context: x\n"
    b"users: [{ name: u, user: { token: t } }]\n"
)
# What stands in a file that is no kubeconfig.
GARBAGE = [
    b"",
    b"hello",
    b"[1, 2]",
    b"{",
    b"a:\n\tb",
    b"\xff\xfe\x00",
    b"apiVersion: v1\nkind: Config\nclusters: 3\ncontexts: 4\nusers: 5\ncurrent-context: x\n",
    b"contexts: [1]\ncurrent-context: x\n",
    b"contexts: [{ name: x }]\ncurrent-context: x\nclusters: []\nusers: []\n",
    CONTEXT + b"clusters: [{ name: c, cluster: { server: 'https://h', certificate-authority-data: 'abc' } }]\n",
    CONTEXT + b"clusters: [{ name: c, cluster: [] }]\n",
]

BOTH = [
    "new",
    "releases",
    "report x",
    "pull x-v1",
    "harvest --to batch",
    "cancel x",
    "prune",
    "compare a-v1 b-v1",
    "status",
    "status x",
    "wait x",
    "logs x",
    "suspend x",
    "resume x",
    "retry x",
    "push --weights w.h5",
    "test-video a-v1 film.mp4 --to out",
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of a user who has no kubeconfig."""
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ATOLL_STORE", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    configure(monkeypatch, tmp_path / "none")
    return folder


def configure(monkeypatch: pytest.MonkeyPatch, kubeconfig: Path) -> None:
    """The client reads the variable when it is imported."""
    import kubernetes.config.kube_config as kube_config

    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(kubeconfig))


@pytest.mark.parametrize("command", BOTH)
@pytest.mark.parametrize("kubeconfig", [None, b"hello"])
def test_a_command_says_how_to_name_a_store(
    command: str,
    kubeconfig: bytes | None,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if kubeconfig is not None:
        (here.parent / "config").write_bytes(kubeconfig)
        configure(monkeypatch, here.parent / "config")
    for name in ("w.h5", "film.mp4"):
        (here / name).write_bytes(HDF5_SIGNATURE)
    assert main(command.split()) == 20
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"error: there is no atoll-store in {here}; change to the folder that has one, name it with --store DIR, "
        "or name a cluster with -n NAMESPACE\n"
    )


@pytest.mark.parametrize("content", GARBAGE)
def test_a_kubeconfig_that_is_none_is_one_line(content: bytes, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = here / "config"
    file.write_bytes(content)
    assert main(["status", "--kubeconfig", str(file)]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: read the kubeconfig {file}: ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "cluster",
    [
        b"server: 'not an address'",
        b"server: 'https://[::1'",
        b"server: 7",
        b"server: 'https://127.0.0.1:9', certificate-authority-data: Z2FyYmFnZQ==",
        b"server: 'https://127.0.0.1:9', certificate-authority: /none",
    ],
)
def test_a_cluster_that_cannot_be_asked_is_one_line(
    cluster: bytes, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "config").write_bytes(CONTEXT + b"clusters: [{ name: c, cluster: { " + cluster + b" } }]\n")
    assert main(["status", "--kubeconfig", "config"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("arguments", [["-n", "team"], ["--context", "lab"]])
def test_who_names_a_cluster_is_told_about_the_kubeconfig(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", *arguments]) == 1
    assert "kubeconfig" in capsys.readouterr().err


def test_kubectl_atoll_asks_for_a_cluster(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/kubectl-atoll"])
    assert main(["status"]) == 1
    assert "kubeconfig" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("my-exprot.tar", "; did you mean my-export.tar?"),
        ("MY-EXPORT.TAR", "; did you mean my-export.tar?"),
        ("my-export", "; did you mean my-export.tar?"),
        ("data/exprot.zip", "; did you mean data/export.zip?"),
        ("other.zip", ""),
        ("nowhere/my-export.tar", ""),
    ],
)
def test_a_missing_archive_is_answered_with_a_likely_name(
    typed: str, hint: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "data").mkdir()
    for name in ("my-export.tar", "data/export.zip", ".my-exprot.tar.swp"):
        (here / name).write_bytes(b"x")
    assert main(["new", typed]) == 10
    assert capsys.readouterr().err == f"error: there is no file {typed} here{hint}\n"


def test_a_missing_archive_may_be_in_the_store(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "reef.tar").write_bytes(archives.tar_bytes(archives.supervisely(5, labels=("coral",))))
    assert main(["push", "reef.tar", "--store", "atoll-store"]) == 0
    (here / "reef.tar").unlink()
    capsys.readouterr()
    assert main(["new", "reff.tar"]) == 10
    assert "; did you mean reef.tar?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--name", "My Robot!"], "--name 'My Robot!'"),
        (["--name", "My Robot!"], "for example my-robot"),
        (["--name", "x" * 41], "at most 40"),
        (["--to", "none/run.yaml"], "there is no folder none"),
        (["--from", "base-v1", "--store", "s"], "there is no release base-v1"),
    ],
)
def test_new_checks_its_arguments_before_it_looks_into_the_archive(
    arguments: list[str], told: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "reef.tar").write_bytes(b"x")
    monkeypatch.setattr("atoll_cli.commands.new.lint_archives", lambda *_, **__: pytest.fail("the archive was read"))
    assert main(["new", "reef.tar", *arguments]) == 20
    assert told in capsys.readouterr().err


class DeadStore:
    """A cluster whose ObjectStore names an address where nobody listens."""

    def read(self, *_: object) -> dict[str, Any]:
        spec = {
            "bucket": "atoll",
            "prefix": "",
            "endpoint": "http://127.0.0.1:9",
            "addressingStyle": "path",
            "checksumMode": "auto",
            "credentials": {"anonymous": True},
        }
        return {"metadata": {"name": "default", "namespace": "team"}, "spec": spec}


def test_the_first_failed_try_is_told_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    seconds: list[float] = []
    backoff = functools.partial(Backoff, clock=lambda: sum(seconds), sleep=seconds.append)
    monkeypatch.setattr(store_access, "Backoff", backoff)
    cluster: Any = DeadStore()
    store = store_access.bucket_of(ClusterAccess(cluster, "team"), "default")
    with pytest.raises(StoreUnavailable, match="tries in"):
        store.get("weights/x")
    printed = capsys.readouterr().err
    assert printed.count("127.0.0.1:9") == 1
    assert printed.startswith("warning: ")
    assert printed.endswith("; trying again for up to 30 s\n")
