"""How long limits held an email, or a batch, that failed before: time that does not count towards giving up."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.progress add column held tstzmultirange not null default '{}';
alter table outboxd.batch add column held tstzmultirange not null default '{}';
"""


def upgrade() -> None:
    op.execute(UPGRADE)
