"""The program `atoll-edge`: it starts the agent's commands, or says which extra brings the agent's packages."""

import sys

from atoll_contract.installation import INSTALL_EDGE, run_program


def main() -> int:
    """The entry point of `atoll-edge`. Returns the exit code."""
    return run_program("atoll-edge", "atoll_edge.cli", f"{INSTALL_EDGE} brings all that the agent needs")


if __name__ == "__main__":
    sys.exit(main())
