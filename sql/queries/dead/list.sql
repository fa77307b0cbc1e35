-- The newest dead letters that fit, at most `limit`; filters that are null match everything.
select
  dead_letters.uid, dead_letters.state, dead_letters.queue, dead_letters.type, dead_letters.error_class,
  dead_letters.error_name, dead_letters.error_code, dead_letters.http_status, dead_letters.message,
  dead_letters.attempts, dead_letters.died_at, dead_letters.signature
from outboxd.dead_letters
where (%(queue)s::text is null or dead_letters.queue = %(queue)s)
  and (%(type)s::text is null or dead_letters.type = %(type)s)
  and (%(state)s::text is null or dead_letters.state = %(state)s)
  and (%(error)s::text is null or %(error)s in (dead_letters.error_class, dead_letters.error_name,
    dead_letters.error_code))
order by dead_letters.died_at desc
limit %(limit)s
