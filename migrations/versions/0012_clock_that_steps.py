"""When requests of an account were last reserved, by the server's clock: whether that clock has gone back since."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.account add column drawn_at timestamptz;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
