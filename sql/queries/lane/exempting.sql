-- The lane that limits of this key close, where they exempt some type now. No row: there is no such lane, no type is
-- exempt, or a pause or a suspension holds every type.
select lane.id
from outboxd.lane
where lane.kind = %(kind)s::text and lane.key = %(key)s::text
  and exists (
    select
    from outboxd.limit_rule
    cross join lateral jsonb_array_elements_text(
      case jsonb_typeof(limit_rule.options -> 'exempt_types') when 'array' then limit_rule.options -> 'exempt_types' end)
      as exempt (type)
    where limit_rule.kind in (%(kind)s::text, %(kind)s::text || '_minute', %(kind)s::text || '_day')
      and (limit_rule.key is null or limit_rule.key = lane.key)
      and outboxd.is_exempt(lane.kind, lane.key, exempt.type))
