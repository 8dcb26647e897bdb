"""Puts the CRDs and the pages of the documentation into the built package. In a checkout they lie outside of it;
`atoll_operator.api.crds` and `atoll_cli.pages` find them in either place. Everything else about the package stands in
pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# What lies outside of the packages → the folder that it goes to.
FILES = {"crds/*.yaml": "atoll_operator/api/crds", "docs/*.md": "atoll_cli/docs"}


class BuildWithFiles(build_py):
    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for pattern, folder in FILES.items():
            target = Path(self.build_lib) / folder
            self.mkpath(str(target))
            for file in sorted(Path().glob(pattern)):
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithFiles})
