-- What a person must decide about, without payloads.
create or replace view outboxd.dead_letters as
select
  dead_letter.uid, dead_letter.id, dead_letter.queue, dead_letter.type, dead_letter.tenant, dead_letter.certainty,
  case dead_letter.certainty when 'not_accepted' then 'dead' else 'unknown' end as state,
  dead_letter.error_class, dead_letter.error_name, dead_letter.error_code, dead_letter.http_status,
  dead_letter.message, dead_letter.signature, dead_letter.attempts, dead_letter.created_at, dead_letter.died_at
from outboxd.dead_letter;
