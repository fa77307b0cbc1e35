"""The fault harness: real daemons under injected faults, and a checker that judges what they did."""

import sys
from pathlib import Path

HELPERS = Path(__file__).parents[1]
if str(HELPERS) not in sys.path:  # as under pytest, where tests/conftest.py does it
    sys.path.insert(0, str(HELPERS))
