-- Until when the quota of an account closes the lanes of a queue that quotas closed, whichever account's lane it is: who
-- has no quota leaves them alone, who has takes what waits there. The past, or null: they are open to this account.
create or replace function outboxd.quota_closed_until(account text, queue text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select lane.closed_until
from outboxd.lane
where lane.kind = 'quota' and lane.key = quota_closed_until.account || '/' || quota_closed_until.queue
$$;
