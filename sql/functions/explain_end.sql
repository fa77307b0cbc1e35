-- What explain says of an email that waits nowhere: it is at its end, in a daemon's hands, or lost.
create or replace function outboxd.explain_end(ended text, in_hand_until timestamptz)
returns table (step bigint, gate text, verdict text, holds boolean, free_at timestamptz, detail text)
language sql stable
set search_path = pg_catalog, pg_temp
as $$
select row_number() over (), row.gate, said.verdict, said.verdict <> 'pass' and row.gate = 'state', null::timestamptz,
  said.detail
from (values ('state'), ('answer')) as row (gate)
cross join (
  select
    case when ended is not null then 'end' when in_hand_until is not null then 'pass' else 'hold' end as verdict,
    coalesce(ended, format('in a daemon''s hands, at most until %s', in_hand_until),
      'in no table of a state: see outboxd rebuild') as detail) as said
$$;
