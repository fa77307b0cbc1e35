"""When the timeline last rose, and the newest email then: what was there before may have been asked for unseen."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.instance
  add column risen_at timestamptz,
  add column risen_id bigint,
  add constraint instance_risen_check check ((risen_at is null) = (risen_id is null));
"""


def upgrade() -> None:
    op.execute(UPGRADE)
