"""Inputs of strangers: no crash, no slow input, no input that takes memory. OUTBOXD_FUZZ=100 tries a hundred times as many."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
