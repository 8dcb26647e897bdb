"""Puts the CRDs into the built package. In a checkout they lie outside of it, in `crds/`, where `kubectl` users look;
`atoll_operator.api.crds` finds them in either place. Everything else about the package stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithCrds(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "atoll_operator" / "api" / "crds"
        self.mkpath(str(target))
        for crd in sorted(Path("crds").glob("*.yaml")):
            self.copy_file(str(crd), str(target / crd.name))


setup(cmdclass={"build_py": BuildWithCrds})
