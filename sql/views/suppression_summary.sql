-- Suppressions by scope and reason: how many hold, how many have expired, and the newest.
create or replace view outboxd.suppression_summary as
select
  suppression.scope, suppression.reason,
  count(*) filter (where suppression.expires_at is null or suppression.expires_at > statement_timestamp()) as active,
  count(*) filter (where suppression.expires_at <= statement_timestamp()) as expired,
  count(*) filter (where suppression.address is null) as erased,
  max(suppression.created_at) as newest_at
from outboxd.suppression
group by suppression.scope, suppression.reason;
