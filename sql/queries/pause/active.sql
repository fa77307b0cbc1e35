-- What must not be asked for at present.
select pause.kind, pause.key
from outboxd.pause
where pause.until is null or pause.until > (select coalesce(%(now)s::timestamptz, clock_timestamp()))
