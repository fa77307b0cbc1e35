"""Which database this is: what the daemon compares before it claims, so that a copy does not send."""

from alembic import op

revision = "instance"
down_revision = "0003_policy"
branch_labels = None
depends_on = None

UPGRADE = """
-- One row, written by the first daemon and by `outboxd adopt`. `api_keys` are fingerprints keyed with `instance`.
create table outboxd.instance (
  one boolean primary key default true check (one),
  instance uuid not null,
  environment text not null,
  system_identifier text,
  database_oid oid not null,
  timeline integer,
  api_keys text[] not null,
  seen_at timestamptz not null default clock_timestamp(),
  adopted_at timestamptz not null default clock_timestamp(),
  adopted_by text not null default session_user
);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
