-- A duration as people write it in policy: '90 s', '5 min', '6 h', '2 d'. Reading it back gives the same interval.
create or replace function outboxd.duration_text(value interval) returns text
language sql immutable strict parallel safe
set search_path = pg_catalog, pg_temp
as $$
select case
    when ms % 86400000 = 0 and ms > 0 then ms / 86400000 || ' d'
    when ms % 3600000 = 0 and ms > 0 then ms / 3600000 || ' h'
    when ms % 60000 = 0 and ms > 0 then ms / 60000 || ' min'
    when ms % 1000 = 0 then ms / 1000 || ' s'
    else ms || ' ms'
  end
from (select (extract(epoch from duration_text.value) * 1000)::bigint as ms) as measured
$$;
