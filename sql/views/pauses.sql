-- What is not asked for at present, why, since when and until when. An open breaker is one of them.
create or replace view outboxd.pauses as
select pause.kind, pause.key, pause.reason, pause.detail, pause.since, pause.until, pause.probe_at, pause.by
from outboxd.pause
where pause.until is null or pause.until > clock_timestamp()
union all
select 'breaker', breaker.account, 'provider_ill', breaker.cause, breaker.opened_at, null, breaker.probe_at, 'outboxd'
from outboxd.breaker
where breaker.state <> 'closed';
