"""The CustomResourceDefinitions of `crds/`, the only definition of the API.

They are in the folder `crds` beside this file where Atoll is installed (images copy them there), otherwise in `crds/`
of the checkout.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from atoll_operator.api import GROUP, VERSION
from atoll_operator.api.yaml import read_documents

_INSTALLED = Path(__file__).parent / "crds"
_CHECKOUT = Path(__file__).resolve().parents[4] / "crds"

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Definition:
    """One kind of its CRD. `schema` is the structural schema of the whole object."""

    kind: str
    plural: str
    short_names: tuple[str, ...]
    namespaced: bool
    schema: Schema
    columns: tuple[Schema, ...]


def folder() -> Path:
    """The folder with the CRDs.

    Raises:
        FileNotFoundError: there is none; the installation is incomplete.
    """
    for candidate in (_INSTALLED, _CHECKOUT):
        if (candidate / "trainingruns.yaml").is_file():
            return candidate
    raise FileNotFoundError(f"the CRDs of Atoll are neither in {_INSTALLED} nor in {_CHECKOUT}; install Atoll again")


@functools.cache
def definitions() -> Mapping[str, Definition]:
    """Every kind of `atoll.dev/v1alpha1` by its name."""
    files = sorted(folder().glob("*.yaml"))
    documents = (document.value for file in files for document in read_documents(file.read_text(encoding="utf-8")))
    found = (_definition(document) for document in documents if document["spec"]["group"] == GROUP)
    return {definition.kind: definition for definition in found}


def _definition(document: Mapping[str, Any]) -> Definition:
    spec = document["spec"]
    names = spec["names"]
    version = next(item for item in spec["versions"] if item["name"] == VERSION)
    return Definition(
        kind=names["kind"],
        plural=names["plural"],
        short_names=tuple(names["shortNames"]),
        namespaced=spec["scope"] == "Namespaced",
        schema=version["schema"]["openAPIV3Schema"],
        columns=tuple(version["additionalPrinterColumns"]),
    )
