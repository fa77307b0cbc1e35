"""How long emails took from due to accepted: a histogram per minute and queue, so that no view reads history."""

from alembic import op

revision = "0002_latency"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
-- Bucket n holds latencies in (1.2^(n-1), 1.2^n] milliseconds, bucket 0 all up to one millisecond. lease/settle writes
-- it, the view latency reads it; a percentile from it is off by at most 9.1 %.
create table outboxd.latency_bucket (
  minute timestamptz not null,
  queue smallint not null,
  bucket smallint not null,
  emails integer not null,
  primary key (minute, queue, bucket)
) with (fillfactor = 50);

create index tally_minute on outboxd.tally (minute);
"""


def upgrade() -> None:
    op.execute(UPGRADE)
