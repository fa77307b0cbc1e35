"""Of a provider account: its quotas, which queues may use all of them, and the rate that its refusals taught."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

UPGRADE = """
-- A quota keeps a share for critical queues: options critical_share (0 to 0.9), and for a month starts_on (1 to 28),
-- the day at whose midnight in UTC it begins.
-- squawk-ignore ban-drop-constraint
alter table outboxd.limit_rule drop constraint limit_rule_kind_check;
alter table outboxd.limit_rule add constraint limit_rule_kind_check check (kind in (
  'recipient', 'provider_minute', 'provider_day', 'account', 'account_day', 'account_month', 'queue', 'type', 'campaign',
  'tenant'));
alter table outboxd.queue add column critical boolean not null default false;
update outboxd.queue set critical = true where name = 'transactional';

-- Requests per second that were let through when the provider refused one that its own figure allowed, or named none;
-- raised slowly while it refuses nothing, null again at its figure. The lower of `rate` and `adapted` is obeyed.
alter table outboxd.account add column adapted double precision check (adapted > 0);
alter table outboxd.account add column adapted_at timestamptz;
"""


def upgrade() -> None:
    op.execute(UPGRADE)
