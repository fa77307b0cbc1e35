"""Pauses of mailbox providers and campaigns."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.pause
  drop constraint pause_kind_check,
  add constraint pause_kind_check
    check (kind in ('account', 'domain', 'queue', 'type', 'campaign', 'provider'));
"""


def upgrade() -> None:
    op.execute(UPGRADE)
