-- The lane that an email goes into when it is inserted: of those that what it belongs to has, one that is paused, else
-- the one that is closed longest (or was, within a minute), else its tenant's, whose mail waits in turn with that of
-- others. What a type is exempt from closes nothing for it, and may close at any time: its tenant's mail of such types has
-- a lane of its own. 0: none of them. Reads without locks and creates no lane. A provider is the first recipient's.
create or replace function outboxd.lane_of(queue text, type text, campaign text, tenant text, recipient text)
returns integer
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  domain text := split_part(lane_of.recipient, '@', 2);
begin
  return coalesce((
    select lane.id
    from (values
      ('tenant', lane_of.tenant), ('exempt', lane_of.tenant), ('campaign', lane_of.campaign), ('type', lane_of.type),
      ('queue', lane_of.queue), ('provider', coalesce(outboxd.provider_of(domain), domain))) as mine (kind, key)
    join outboxd.lane on lane.kind = mine.kind and lane.key = mine.key
    left join outboxd.pause
      on pause.kind = mine.kind and pause.key = mine.key and (pause.until is null or pause.until > clock_timestamp())
    cross join lateral (
      select case when lane.closed_until > clock_timestamp() - interval '1 min' then lane.closed_until end as at) as closed
    where pause.key is not null or case mine.kind
      when 'tenant' then not outboxd.is_exempt(mine.kind, mine.key, lane_of.type)
      when 'exempt' then outboxd.is_exempt('tenant', mine.key, lane_of.type)
      else closed.at is not null and not outboxd.is_exempt(mine.kind, mine.key, lane_of.type) end
    order by pause.key is null, closed.at desc nulls last, mine.kind not in ('tenant', 'exempt'), lane.id
    limit 1), 0);
end
$$;
