-- One dead letter with its history; the payload only where it is asked for. No row: there is none.
select
  dead_letters.*,
  dead_letter.excerpt, dead_letter.stack, dead_letter.history, dead_letter.first_asked_at, dead_letter.frozen,
  case when %(payload)s then dead_letter.payload end as payload
from outboxd.dead_letters
join outboxd.dead_letter on dead_letter.id = dead_letters.id
where dead_letters.uid = %(uid)s
