"""Lint the SQL of the revisions with squawk."""

import subprocess
import sys
import tempfile
from pathlib import Path

from outboxd.db.migrate import sql

# A revision runs in one transaction on tables that it makes itself; identity keys are bigint where rows are many;
# the one varchar is alembic's own.
EXCLUDED = "prefer-robust-stmts,require-concurrent-index-creation,prefer-bigint-over-smallint,prefer-bigint-over-int,require-timeout-settings,ban-uncommitted-transaction,prefer-text-field"
squawk = Path(sys.executable).with_name("squawk")
with tempfile.TemporaryDirectory() as folder:
    revisions = sql().partition("create or replace function")[0]
    file = Path(folder) / "revisions.sql"
    file.write_text(revisions, "utf-8")
    sys.exit(subprocess.run([squawk, "--exclude", EXCLUDED, file], check=False).returncode)
