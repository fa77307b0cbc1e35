"""What has been granted under limits, and which mailbox provider a domain belongs to.

Counts are rows that a grant locks in order of their keys, in logged tables: a crash forgets none. `stale_at` is coarse,
so that an update of a count changes no indexed column; what lies behind it is pruned.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UPGRADE = """
-- The last grants per mailbox, exactly: which email, and when. The key is a hash; see outboxd.recipient_key.
create table outboxd.recipient_count (
  key bytea primary key,
  emails bigint[] not null default '{}',
  at timestamptz[] not null default '{}',
  per interval not null,
  stale_at timestamptz not null
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000,
  autovacuum_vacuum_cost_delay = 0);
create index recipient_count_stale_at on outboxd.recipient_count (stale_at);

-- Shares granted per key of any other limit: how many, summed up per sub-slot under its last instant.
create table outboxd.window_count (
  kind text collate "C" not null,
  key text collate "C" not null,
  at timestamptz[] not null default '{}',
  n integer[] not null default '{}',
  most integer,
  per interval not null,
  stale_at timestamptz not null,
  primary key (kind, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000,
  autovacuum_vacuum_cost_delay = 0);
create index window_count_stale_at on outboxd.window_count (stale_at);

-- Which domains are one mailbox provider. 'yahoo.*' stands for a label, a country's end, or both: yahoo.fr, yahoo.co.uk.
create table outboxd.provider_domain (
  domain text collate "C" primary key check (domain = lower(domain) and domain ~ '^[a-z0-9-]+([.][a-z0-9-]+)*([.][*])?$'),
  provider text not null check (provider ~ '^[a-z0-9][a-z0-9_.-]{0,62}$')
);

-- Which mail exchangers are whose, by the end of their host names.
create table outboxd.provider_mx (
  suffix text collate "C" primary key check (suffix = lower(suffix) and suffix ~ '^[a-z0-9-]+([.][a-z0-9-]+)+$'),
  provider text not null check (provider ~ '^[a-z0-9][a-z0-9_.-]{0,62}$')
);

-- What DNS said about domains that are not listed. `provider` is null where the exchangers are nobody's that we know.
create table outboxd.domain_mx (
  domain text collate "C" primary key,
  provider text,
  looked_up_at timestamptz not null,
  expires_at timestamptz not null
);
create index domain_mx_expires_at on outboxd.domain_mx (expires_at);
create index domain_mx_provider on outboxd.domain_mx (provider);

-- A provider that is to be sent to more slowly, or not at all for a while.
create table outboxd.provider_override (
  provider text collate "C" primary key,
  rate_factor double precision not null default 1 check (rate_factor > 0 and rate_factor <= 1),
  suspended_until timestamptz,
  reason text not null check (reason <> '' and length(reason) <= 500),
  who text not null check (who <> '' and length(who) <= 100),
  since timestamptz not null default clock_timestamp()
);

insert into outboxd.provider_domain (domain, provider) values
  ('gmail.com', 'gmail'), ('googlemail.com', 'gmail'),
  ('outlook.*', 'microsoft'), ('hotmail.*', 'microsoft'), ('live.*', 'microsoft'), ('msn.com', 'microsoft'),
  ('windowslive.com', 'microsoft'), ('passport.com', 'microsoft'),
  ('yahoo.*', 'yahoo'), ('ymail.com', 'yahoo'), ('rocketmail.com', 'yahoo'), ('myyahoo.com', 'yahoo'),
  ('icloud.com', 'icloud'), ('me.com', 'icloud'), ('mac.com', 'icloud'),
  ('aol.*', 'aol'), ('aim.com', 'aol'), ('netscape.net', 'aol'), ('verizon.net', 'aol'),
  ('gmx.*', 'gmx'), ('web.de', 'gmx'), ('mail.com', 'gmx'),
  ('protonmail.com', 'proton'), ('protonmail.ch', 'proton'), ('proton.me', 'proton'), ('pm.me', 'proton'),
  ('yandex.*', 'yandex'), ('ya.ru', 'yandex'),
  ('mail.ru', 'mailru'), ('bk.ru', 'mailru'), ('inbox.ru', 'mailru'), ('list.ru', 'mailru'),
  ('internet.ru', 'mailru'),
  ('zoho.com', 'zoho'), ('zohomail.com', 'zoho'), ('zoho.eu', 'zoho'), ('zohomail.eu', 'zoho'),
  ('fastmail.com', 'fastmail'), ('fastmail.fm', 'fastmail'),
  ('t-online.de', 't-online'), ('magenta.de', 't-online'),
  ('orange.fr', 'orange'), ('wanadoo.fr', 'orange'), ('free.fr', 'free'), ('laposte.net', 'laposte'),
  ('sfr.fr', 'sfr'), ('neuf.fr', 'sfr'), ('bbox.fr', 'bouygues'),
  ('libero.it', 'libero'), ('virgilio.it', 'libero'), ('seznam.cz', 'seznam'), ('email.cz', 'seznam'),
  ('wp.pl', 'wp'), ('o2.pl', 'wp'), ('onet.pl', 'onet'), ('interia.pl', 'interia'),
  ('comcast.net', 'comcast'), ('xfinity.com', 'comcast'), ('att.net', 'yahoo'), ('sbcglobal.net', 'yahoo'),
  ('bellsouth.net', 'yahoo'), ('cox.net', 'yahoo'), ('btinternet.com', 'bt'), ('bt.com', 'bt'),
  ('qq.com', 'qq'), ('foxmail.com', 'qq'), ('163.com', 'netease'), ('126.com', 'netease'), ('yeah.net', 'netease'),
  ('naver.com', 'naver'), ('hanmail.net', 'daum'), ('daum.net', 'daum');

insert into outboxd.provider_mx (suffix, provider) values
  ('google.com', 'gmail'), ('googlemail.com', 'gmail'),
  ('protection.outlook.com', 'microsoft'), ('mx.microsoft', 'microsoft'),
  ('yahoodns.net', 'yahoo'), ('mail.icloud.com', 'icloud'), ('gmx.net', 'gmx'), ('kundenserver.de', 'ionos'),
  ('protonmail.ch', 'proton'), ('yandex.net', 'yandex'), ('yandex.ru', 'yandex'), ('mail.ru', 'mailru'),
  ('zoho.com', 'zoho'), ('zoho.eu', 'zoho'), ('messagingengine.com', 'fastmail'), ('pphosted.com', 'proofpoint'),
  ('mimecast.com', 'mimecast'), ('barracudanetworks.com', 'barracuda'), ('ovh.net', 'ovh'), ('gandi.net', 'gandi'),
  ('secureserver.net', 'godaddy'), ('qq.com', 'qq');
"""


def upgrade() -> None:
    op.execute(UPGRADE)
