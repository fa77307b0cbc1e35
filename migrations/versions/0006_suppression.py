"""Suppression: who gets no email, of which kind, why and until when.

The key is a keyed hash, so that an erased address can be kept out for ever without being kept. The secret is made
here, once per database: a copy of the database has it too, and without it no hash can be told.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UPGRADE = """
-- One row. The pads are the key's, ready for HMAC (RFC 2104): 64 bytes each, xor 0x36 and 0x5c.
create table outboxd.secret (
  singleton boolean primary key default true check (singleton),
  key bytea not null check (octet_length(key) = 32),
  inner_pad bytea not null check (octet_length(inner_pad) = 64),
  outer_pad bytea not null check (octet_length(outer_pad) = 64),
  created_at timestamptz not null default clock_timestamp()
);

-- Three random UUIDs are 366 bits from the server's strong source; no extension is needed.
with made as materialized (
  select sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) as key
)
insert into outboxd.secret (key, inner_pad, outer_pad)
select made.key,
  (select decode(string_agg(lpad(to_hex(bytes.value # 54), 2, '0'), '' order by bytes.place), 'hex')
   from (select place, case when place < 32 then get_byte(made.key, place) else 0 end as value
         from generate_series(0, 63) as place) as bytes),
  (select decode(string_agg(lpad(to_hex(bytes.value # 92), 2, '0'), '' order by bytes.place), 'hex')
   from (select place, case when place < 32 then get_byte(made.key, place) else 0 end as value
         from generate_series(0, 63) as place) as bytes)
from made;

-- A scope is `all`, the name of a queue or the name of a type. `address` is for people; null once it was erased.
create table outboxd.suppression (
  address_hash bytea not null check (octet_length(address_hash) = 16),
  scope text not null check (scope <> '' and length(scope) <= 100),
  reason text not null check (reason in ('hard_bounce', 'soft_bounce_persistent', 'spam_complaint', 'feedback_loop',
    'unsubscribe', 'gdpr', 'fraud', 'admin')),
  source text not null check (source <> '' and length(source) <= 100),
  cause text check (length(cause) <= 1000),
  address text check (reason <> 'gdpr' or address is null),
  expires_at timestamptz check (isfinite(expires_at)),
  metadata jsonb not null default '{}' check (jsonb_typeof(metadata) = 'object'),
  created_at timestamptz not null default clock_timestamp(),
  primary key (address_hash, scope)
);
create index suppression_created_at on outboxd.suppression (created_at);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
