"""The program `atoll`: it starts the command line, or says which extra brings the command line's packages."""

import sys

from atoll_contract.installation import INSTALL_CLUSTER, INSTALL_LAPTOP, run_program

ADVICE = f"{INSTALL_LAPTOP} brings everything for this machine, {INSTALL_CLUSTER} only what works with a cluster"


def main() -> int:
    """The entry point of `atoll` and `kubectl atoll`. Returns the exit code."""
    return run_program("atoll", "atoll_cli.main", ADVICE)


if __name__ == "__main__":
    sys.exit(main())
