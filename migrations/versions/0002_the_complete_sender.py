"""The complete sender: batches, lanes, pauses, the rate of an account.

An email that travels in a batch with an open ask is in the table `batch_member` and in no other until the batch is
resolved: its primary key is the promise that no other request carries it. `pause` says what must not be asked for,
`lane` gives what waits for one of them a place of its own in `ready`, so that it costs the others nothing.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
alter table outboxd.queue add column batch boolean not null default true;
alter table outboxd.email_type add column secret boolean not null default false;
update outboxd.email_type set secret = true where name in ('confirmation', 'reset');

-- A request for many emails: bytes and key are fixed before the first ask and never change. `due_at` is null while a
-- lease holds the members. `rejected`: the provider refused it as a whole, so it is to be split.
create table outboxd.batch (
  batch_uid uuid primary key,
  body bytea not null,
  frozen jsonb not null,
  queue smallint not null,
  lane integer not null,
  due_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  attempts smallint not null default 0,
  crash_streak smallint not null default 0,
  first_asked_at timestamptz,
  first_failed_at timestamptz,
  last_ambiguous_at timestamptz,
  ambiguous boolean not null default false,
  transient boolean not null default true,
  rejected boolean not null default false,
  last_error text
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_cost_delay = 0);
alter table outboxd.batch alter column body set storage external;
create index batch_due on outboxd.batch (due_at) where due_at is not null;

create table outboxd.batch_member (
  id bigint primary key,
  batch_uid uuid not null,
  place smallint not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000);
create index batch_member_batch on outboxd.batch_member (batch_uid, place);

-- A place in `ready` for what may be closed on its own. A lane without an active pause is open.
create table outboxd.lane (
  id integer generated always as identity primary key,
  kind text not null,
  key text not null,
  unique (kind, key)
);

-- What must not be asked for, until a time, a probe that succeeds, or a person. A row whose `until` passed is inert.
create table outboxd.pause (
  kind text not null check (kind in ('account', 'domain', 'queue', 'type', 'campaign', 'provider')),
  key text not null,
  reason text not null,
  detail text,
  since timestamptz not null default clock_timestamp(),
  until timestamptz,
  probe_at timestamptz,
  probe_every interval,
  by text not null,
  primary key (kind, key)
) with (fillfactor = 50);

-- The pace of a provider account. `next_at` is when the next request may leave (generic cell rate algorithm);
-- `rate` is the provider's figure in requests per second, null where it names none.
create table outboxd.account (
  name text primary key,
  rate double precision default 10 check (rate > 0),
  next_at timestamptz not null default clock_timestamp(),
  overran_at timestamptz
) with (fillfactor = 50);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
