"""The builder is a folder of scripts, not a package: its modules are imported from where they lie."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "images" / "builder"))
