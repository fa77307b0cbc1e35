"""The circuit breaker of a provider account, and how long what waits was held."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UPGRADE = """
-- One row per account that ever failed. `failed_at` holds the last failures that say "the provider is ill", at most
-- `threshold`; each leaves after `span`. `open_for` lies between two probes. The last three may be changed at any time.
create table outboxd.breaker (
  account text primary key,
  state text not null default 'closed' check (state in ('closed', 'open', 'half_open')),
  failed_at timestamptz[] not null default '{}',
  opened_at timestamptz check (state = 'closed' or opened_at is not null),
  probe_at timestamptz check (state = 'closed' or probe_at is not null),
  cause text,
  probes integer not null default 0,
  threshold smallint not null default 10 check (threshold between 1 and 1000),
  span interval not null default '60 s' check (span > '0'),
  open_for interval not null default '30 s' check (open_for > '0')
) with (fillfactor = 50);

-- Times, now over, in which something was not asked for: each pause, and each opening of a breaker. Added by triggers,
-- pruned by age. What was held meanwhile is given that time back, and people read the history.
create table outboxd.hold (
  kind text not null,
  key text not null,
  reason text not null,
  detail text,
  since timestamptz not null,
  until timestamptz not null check (until > since)
);
create index hold_kind_key_until on outboxd.hold (kind, key, until);
create index hold_until on outboxd.hold (until);

-- For the sweep of what was asked 23 hours ago and never answered.
create index progress_ambiguous on outboxd.progress (first_asked_at) where ambiguous;
create index batch_ambiguous on outboxd.batch (first_asked_at) where ambiguous;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
