-- One row per limit. Of one kind the row with the key beats the row without (`key` null), which holds for each other
-- key by itself; `most` null: no limit. Change it by outboxd.set_limit.
create or replace view outboxd.limit_policy as
select
  limit_rule.name,
  limit_rule.kind,
  limit_rule.key,
  limit_rule.most,
  limit_rule.per,
  array(select jsonb_array_elements_text(limit_rule.options -> 'exempt_types')) as exempt_types,
  (limit_rule.options ->> 'pace')::double precision as pace,
  (limit_rule.options ->> 'critical_share')::double precision as critical_share,
  (limit_rule.options ->> 'starts_on')::integer as starts_on
from outboxd.limit_rule;
