"""The straight path: email, ready, lease, delivery, what outlives an attempt, dead letters, policy.

An email is in the table of its state: `ready` (to be asked), `lease` (in hand), `delivery` (ended), `dead_letter`
(a person must decide). `email`, `delivery` and `attempt` are range-partitioned by the email's id with equal bounds,
so that history leaves by detaching, never by DELETE. No foreign keys to `email`: they would lock it when a
partition leaves.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UPGRADE = """
create table outboxd.queue (
  id smallint generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
  priority smallint not null default 50 check (priority between 1 and 100),
  max_attempts smallint not null default 3 check (max_attempts between 1 and 100),
  backoff text not null default 'exponential' check (backoff in ('exponential', 'fixed')),
  backoff_base interval not null default '5 s' check (backoff_base > '0' and backoff_base <= '1 h'),
  give_up_after interval not null default '6 h' check (give_up_after >= '0' and give_up_after <= '22 h'),
  dedupe_for interval not null default '24 h' check (dedupe_for >= '0'),
  keep_done_for interval not null default '24 h' check (keep_done_for >= '0'),
  keep_done integer not null default 1000 check (keep_done >= 0),
  keep_failed_for interval not null default '7 d' check (keep_failed_for >= '0'),
  keep_failed integer not null default 5000 check (keep_failed >= 0)
);

insert into outboxd.queue (name, priority, max_attempts, backoff, backoff_base, give_up_after) values
  ('transactional', 1, 5, 'exponential', '5 s', '6 h'),
  ('system', 5, 3, 'fixed', '10 s', '12 h'),
  ('marketing', 10, 3, 'exponential', '30 s', '3 h');

create table outboxd.email_type (
  name text primary key check (name <> '' and length(name) <= 100),
  queue text not null default 'transactional' references outboxd.queue (name) on update cascade,
  max_attempts smallint check (max_attempts between 1 and 100),
  backoff text check (backoff in ('exponential', 'fixed')),
  backoff_base interval check (backoff_base > '0' and backoff_base <= '1 h'),
  give_up_after interval check (give_up_after >= '0' and give_up_after <= '22 h')
);

insert into outboxd.email_type (name, queue, max_attempts, backoff, backoff_base) values
  ('confirmation', 'transactional', 7, 'exponential', '2 s'),
  ('reset', 'transactional', 7, 'exponential', '2 s'),
  ('invoice', 'transactional', 5, 'exponential', '10 s'),
  ('notification', 'transactional', 3, 'exponential', '5 s'),
  ('newsletter', 'marketing', 2, 'fixed', '60 s'),
  ('alert', 'system', null, null, null),
  ('report', 'system', null, null, null);

-- Written once by the application, never updated on the path. The trigger fills queue, priority and recipients.
create table outboxd.email (
  id bigint generated always as identity,
  uid uuid not null default gen_random_uuid(),
  created_at timestamptz not null default clock_timestamp(),
  type text not null,
  payload jsonb not null,
  queue text not null,
  priority smallint not null,
  scheduled_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz,
  max_attempts smallint,
  dedupe_key text,
  tenant text not null default '',
  guard text,
  campaign text,
  trace jsonb,
  recipients text[] not null,
  primary key (id)
) partition by range (id);
create index email_uid on outboxd.email (uid);
create index email_recipients on outboxd.email using gin (recipients) with (fastupdate = off);

create table outboxd.delivery (
  id bigint not null,
  state text not null check (state in ('sent', 'suppressed', 'cancelled', 'expired')),
  queue smallint not null,
  attempts smallint not null,
  provider_id text,
  reason text,
  at timestamptz not null default clock_timestamp(),
  primary key (id)
) partition by range (id);

-- One row per ask that did not end as sent at once, and per acceptance that came too late for its lease.
create table outboxd.attempt (
  id bigint not null,
  attempt_id bigint generated always as identity,
  lease_id uuid not null,
  outcome text not null,
  asked_at timestamptz,
  ended_at timestamptz not null default clock_timestamp(),
  fenced boolean not null,
  http_status smallint,
  error_name text,
  message text,
  provider_id text,
  primary key (id, attempt_id)
) partition by range (id);

create table outboxd.email_default partition of outboxd.email default;
create table outboxd.delivery_default partition of outboxd.delivery default;
create table outboxd.attempt_default partition of outboxd.attempt default;

-- What is still to be asked. Lane 0 is the common one; lanes below it hold suspects of a crash (-1: one crash,
-- -2: more), lanes above it will hold what has a limit of its own.
create table outboxd.ready (
  id bigint primary key,
  queue smallint not null,
  lane integer not null default 0,
  priority smallint not null,
  scheduled_at timestamptz not null
) with (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000,
  autovacuum_analyze_scale_factor = 0.2, autovacuum_vacuum_cost_delay = 0
);
create index ready_claim on outboxd.ready (queue, lane, priority, scheduled_at, id);

-- One row per claimed batch. `ids` shrinks as outcomes are settled: membership is the fence.
create table outboxd.lease (
  lease_id uuid primary key,
  worker uuid not null,
  ids bigint[] not null,
  frozen jsonb not null,
  claimed_at timestamptz not null,
  lease_until timestamptz not null
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
  autovacuum_vacuum_cost_delay = 0);

-- What must outlive an attempt; only for emails that were asked, or may have been, without ending.
create table outboxd.progress (
  id bigint primary key,
  attempts smallint not null default 0,
  crash_streak smallint not null default 0,
  first_asked_at timestamptz,
  first_failed_at timestamptz,
  ambiguous boolean not null default false,
  transient boolean not null default true,
  generation smallint not null default 1,
  frozen jsonb not null,
  last_error text
) with (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

-- A word left beside an email that is in somebody else's hands. Every claim and settle reads it.
create table outboxd.word (
  id bigint not null,
  kind text not null check (kind in ('cancel', 'accepted')),
  provider_id text,
  at timestamptz not null default clock_timestamp(),
  primary key (id, kind)
);

create table outboxd.dead_letter (
  id bigint primary key,
  uid uuid not null unique,
  certainty text not null check (certainty in ('not_accepted', 'maybe_accepted')),
  queue text not null,
  type text not null,
  tenant text not null default '',
  payload jsonb,
  created_at timestamptz,
  died_at timestamptz not null default clock_timestamp(),
  error_class text not null,
  error_name text,
  error_code text,
  http_status smallint,
  message text not null,
  excerpt text,
  stack text,
  signature text not null,
  attempts smallint not null,
  history jsonb not null default '[]',
  generation smallint not null default 1,
  first_asked_at timestamptz,
  frozen jsonb,
  expires_at timestamptz
);
create index dead_letter_died_at on outboxd.dead_letter (died_at);

create table outboxd.dedupe (
  tenant text not null,
  key text not null,
  id bigint not null,
  primary key (tenant, key)
);

-- Ends per queue and minute, so that no view counts history.
create table outboxd.tally (
  queue smallint not null,
  minute timestamptz not null,
  sent integer not null default 0,
  failed integer not null default 0,
  primary key (queue, minute)
) with (fillfactor = 50);

-- For people: who is at work. Nothing is decided by it.
create table outboxd.worker (
  worker uuid primary key,
  host text not null,
  pid integer not null,
  version text not null,
  threads smallint not null,
  started_at timestamptz not null default clock_timestamp(),
  beat_at timestamptz not null default clock_timestamp(),
  stopping boolean not null default false
) with (fillfactor = 50);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
