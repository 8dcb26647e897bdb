"""README's way onto a cluster, as `make e2e-full` takes it apart to type it."""

from __future__ import annotations

from support.readme_commands import commands


def test_the_section_has_the_commands_that_are_typed() -> None:
    images, install, apply, status = commands("On a cluster")
    assert images == "make images && make load TARGET=k3s"
    # A command that goes on in the next line is one command.
    assert install.startswith("helm install atoll charts/atoll --namespace atoll ")
    assert install.endswith(" -f build/values-images.yaml --wait --wait-for-jobs")
    assert apply == "kubectl apply -n atoll -f crds/samples/trainingrun-field.yaml"
    assert status.startswith(".venv/bin/atoll status field -n atoll --watch")
