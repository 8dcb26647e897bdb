"""`python -m atoll_operator.mirror`: the name by which installed charts start `atoll_operator.devices`."""

import sys

from atoll_operator.devices.main import main

if __name__ == "__main__":
    sys.exit(main())
