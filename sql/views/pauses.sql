-- What is not asked for at present, why, since when and until when.
create or replace view outboxd.pauses as
select pause.kind, pause.key, pause.reason, pause.detail, pause.since, pause.until, pause.probe_at, pause.by
from outboxd.pause
where pause.until is null or pause.until > clock_timestamp();
