"""Policy as data: limits beside queues and types, a version that daemons poll, and the operators' log."""

from alembic import op

revision = "0003_policy"
down_revision = "0002_latency"
branch_labels = None
depends_on = None

UPGRADE = """
-- At most `most` within any `per`. Of one kind the row with the key beats the row without, which holds for each other
-- key by itself. `most` null: no limit. Written by outboxd.set_limit. A provider's key is its name in the groups of
-- mailbox providers, else a domain. options: exempt_types (array of types that do not count and are not held), and for
-- the account pace (the share of `most` that is used).
create table outboxd.limit_rule (
  name text primary key check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  kind text not null check (kind in (
    'recipient', 'provider_minute', 'provider_day', 'account', 'queue', 'type', 'campaign', 'tenant')),
  key text check (key <> '' and length(key) <= 253),
  most integer check (most >= 1),
  per interval not null check (per > '0' and per <= '31 d'),
  options jsonb not null default '{}' check (jsonb_typeof(options) = 'object'),
  unique nulls not distinct (kind, key)
);

insert into outboxd.limit_rule (name, kind, key, most, per, options) values
  ('recipient', 'recipient', null, 3, '1 h', '{"exempt_types": ["confirmation", "reset"]}'),
  ('provider_minute', 'provider_minute', null, 100, '1 min', '{}'),
  ('provider_day', 'provider_day', null, 10000, '24 h', '{}'),
  ('gmail_day', 'provider_day', 'gmail', 2000, '24 h', '{}'),
  ('yahoo_day', 'provider_day', 'yahoo', 500, '24 h', '{}'),
  ('microsoft_day', 'provider_day', 'microsoft', 500, '24 h', '{}'),
  ('icloud_day', 'provider_day', 'icloud', 200, '24 h', '{}'),
  ('account', 'account', null, 10, '1 s', '{"pace": 0.97}');

-- One row. A trigger raises it with each change of policy, in the same transaction: unlike a sequence it is never
-- seen before the change.
create table outboxd.policy_version (
  one boolean primary key default true check (one),
  version bigint not null default 1
);
insert into outboxd.policy_version default values;

-- Who changed what. Rows are added, never changed; no personal data but the operator's name.
create table outboxd.operator_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  who text not null,
  action text not null,
  kind text not null,
  key text,
  detail jsonb not null default '{}'
);
create index operator_log_at on outboxd.operator_log (at);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
