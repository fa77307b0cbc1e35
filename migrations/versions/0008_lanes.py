"""Lanes of mailbox providers: closed until the provider's limit has room again."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.lane add column closed_until timestamptz;
alter table outboxd.queue add column weight smallint not null default 1 check (weight between 1 and 100);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
