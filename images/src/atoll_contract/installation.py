"""What an installation of Atoll holds: its version, and the sentence that names the extra that it lacks."""

import importlib
import sys
from collections.abc import Iterable
from importlib.util import find_spec

from atoll_contract.errors import SpecError

# Everything that the commands do on one machine. Quoted, because some shells expand brackets.
INSTALL_LAPTOP = "pip install 'atoll[laptop]'"
INSTALL_CLUSTER = "pip install 'atoll[cli]'"
INSTALL_EDGE = "pip install 'atoll[edge]'"


def require_packages(purpose: str, modules: Iterable[str]) -> None:
    """Check that the modules can be imported, without the seconds that their import takes.

    Raises:
        SpecError: some are missing; the message names them and what installs them.
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise SpecError(
            f"{purpose} needs {', '.join(missing)}, not installed here; {INSTALL_LAPTOP} brings all it needs"
        )


def run_program(name: str, module: str, advice: str) -> int:
    """Run `main` of the module. Where a package of others is not installed, print its name and the advice instead.

    Programs start here so that an installation without extras explains itself; this module imports none of them.
    """
    try:
        return int(importlib.import_module(module).main())
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package.startswith("atoll_") or package in sys.stdlib_module_names:
            raise
        print(f"{name}: the package {package} is not installed here; {advice}", file=sys.stderr)
        return 1
