"""Fixtures of the black-box tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from conftest_path import daemon, forks, key_file, reach, sink  # noqa: F401 - fixtures
