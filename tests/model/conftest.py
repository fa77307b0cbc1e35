"""The pure core under hypothesis' state machines, with a clock that the machine owns."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
