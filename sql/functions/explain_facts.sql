-- What the tables say of one email that explain goes by. Where it travels in a batch whose answer is open, what is said
-- of one of the batch's emails counts for all, and `ambiguous` and the instants are the batch's. No row: no such email.
create or replace function outboxd.explain_facts(uid uuid, at timestamptz)
returns table (
  id bigint, queue text, type text, campaign text, tenant text, expires_at timestamptz, senders text[], types text[],
  recipients text[], ended text, in_hand_until timestamptz, batched boolean, waits boolean, due_at timestamptz, queue_id smallint,
  lane integer, priority smallint, attempts integer, last_error text, open boolean, finishes boolean,
  first_asked_at timestamptz, cancelled boolean, accepted boolean, unwanted text, taken_out text[], lane_kind text, lane_key text,
  lane_closed boolean, lane_until timestamptz)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
return query
select
  email.id, email.queue, email.type, email.campaign, email.tenant, email.expires_at, mates.senders, mates.types,
  case when finishes.yes then mates.recipients else array(
    select mailbox.address
    from unnest(email.recipients) with ordinality as mailbox (address, place)
    where mailbox.address <> all (review.taken_out)
    order by mailbox.place) end,
  case
    when delivery.id is not null then
      delivery.state || coalesce(': ' || delivery.reason, '') || to_char(delivery.at, ' "at" YYYY-MM-DD HH24:MI:SSOF')
    when dead_letter.id is not null then
      case dead_letter.certainty when 'not_accepted' then 'dead: ' else 'unknown: ' end || dead_letter.message
  end,
  lease.lease_until, batch.batch_uid is not null, ready.id is not null or batch.due_at is not null,
  coalesce(batch.due_at, ready.scheduled_at), coalesce(ready.queue, batch.queue), coalesce(batch.lane, ready.lane),
  coalesce(ready.priority, email.priority), coalesce(batch.attempts, progress.attempts, 0)::integer,
  coalesce(batch.last_error, progress.last_error), coalesce(batch.ambiguous, progress.ambiguous, false), finishes.yes,
  coalesce(batch.first_asked_at, progress.first_asked_at),
  coalesce(said.cancelled, false), coalesce(said.accepted, false),
  case when review.nobody_left or (progress.ambiguous and not review.taken_out <@ review.before)
    then (select format('%s (%s)', who.reason, who.scope) from outboxd.unwanted(
      email.recipients, email.queue, email.type, explain_facts.at) as who limit 1) end,
  review.taken_out, lane.kind, lane.key,
  coalesce(shut.key is not null or lane.until > explain_facts.at, false),
  case when shut.key is null or shut.until is not null then greatest(shut.until, lane.until) end
from outboxd.email
left join outboxd.delivery on delivery.id = email.id
left join outboxd.dead_letter on dead_letter.id = email.id
left join outboxd.batch_member as member on member.id = email.id
left join outboxd.batch on batch.batch_uid = member.batch_uid
left join outboxd.ready on ready.id = email.id and member.id is null
left join outboxd.progress on progress.id = email.id and member.id is null
left join outboxd.lane_closed as lane on lane.id = coalesce(batch.lane, ready.lane)
left join outboxd.pause as shut
  on shut.kind = lane.kind and shut.key = lane.key and (shut.until is null or shut.until > explain_facts.at)
left join lateral (
  select lease.lease_until from outboxd.lease where email.id = any (lease.ids) limit 1) as lease on true
left join lateral (
  select bool_or(word.kind = 'cancel') as cancelled, bool_or(word.kind = 'accepted') as accepted
  from outboxd.word
  where word.id = email.id) as said on true
cross join lateral (select coalesce(batch.ambiguous, false) as yes) as finishes
cross join lateral (
  select coalesce(found.addresses, '{}') as now, known.before,
    email.recipients[1 : case jsonb_typeof(email.payload -> 'to')
      when 'array' then jsonb_array_length(email.payload -> 'to') else 1 end] <@ coalesce(found.addresses, '{}')
      as nobody_left,
    case when progress.first_asked_at is null then coalesce(found.addresses, '{}')
      else coalesce(found.addresses, '{}') || known.before end as taken_out
  from (select array_agg(who.address) as addresses
    from outboxd.unwanted(email.recipients, email.queue, email.type, explain_facts.at) as who) as found
  cross join (
    select array(select jsonb_array_elements_text(coalesce(progress.frozen -> 'removed', '[]'))) as before) as known
) as review
cross join lateral (
  select array_agg(distinct one.type) as types,
    array_agg(distinct coalesce(outboxd.domain_to_ascii(sender.domain), lower(sender.domain))) as senders,
    (select array_agg(distinct address) from unnest(array_agg(one.recipients::text)) as packed (list)
      cross join lateral unnest(packed.list::text[]) as address) as recipients
  from outboxd.email as one
  cross join lateral (
    select regexp_replace(rtrim(one.payload ->> 'from', '> '), '^.*@', '') as domain) as sender
  where one.id = email.id
    or finishes.yes and one.id in (select other.id from outboxd.batch_member as other where other.batch_uid = member.batch_uid)
) as mates
where email.uid = explain_facts.uid;
end
$$;
