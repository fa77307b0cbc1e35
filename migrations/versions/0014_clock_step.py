"""By how much the server's clock went ahead of true time, and when: each step is taken out of the limits' counts once."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UPGRADE = """
create table outboxd.clock_step (
  at timestamptz not null,
  ahead interval not null constraint clock_step_ahead_check check (ahead > interval '0')
);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
