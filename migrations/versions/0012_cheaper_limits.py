"""Away with the signatures of functions that only grant_limits calls, and calls by others now."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = """
drop function if exists outboxd.lock_limits(
  bigint[], integer[], bytea[], integer[], interval[], text[], text[], integer[], interval[], timestamptz);
drop function if exists outboxd.refuse_limits(
  bigint[], timestamptz[], integer[], text[], bytea[], integer[], interval[], integer[], integer[], boolean[],
  text[], text[], interval[], timestamptz[], timestamptz[], integer[], integer[], integer[], integer[],
  integer[], integer[], timestamptz[], interval, timestamptz);
drop function if exists outboxd.write_shares(
  boolean[], text[], text[], integer[], interval[], integer[], integer[], integer[], interval, timestamptz);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
