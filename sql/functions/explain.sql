-- Why an email has not left: every gate in the order of its way, `pass`, `hold` (until free_at; null: until somebody acts)
-- or `end` (it is not sent); `holds` marks the one that stops it now. The last two rows are its place among what waits
-- beside it, and the answer: when it can go at the earliest, as far as gates are concerned. Locks and changes nothing.
-- Of an email that is in hand or at its end, the state says all. `at` is the instant that is asked about; null: now.
create or replace function outboxd.explain(uid uuid, at timestamptz default null)
returns table (step bigint, gate text, verdict text, holds boolean, free_at timestamptz, detail text)
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
set jit = off
as $$
#variable_conflict use_column
declare
  instant constant timestamptz := coalesce(explain.at, clock_timestamp());
  fact record;
begin
  select * into fact from outboxd.explain_facts(explain.uid, instant);
  if not found then
    raise exception 'uid: there is no email with this uid' using errcode = '22023';
  elsif fact.ended is not null or fact.in_hand_until is not null or not fact.waits then
    return query select * from outboxd.explain_end(fact.ended, fact.in_hand_until);
    return;
  end if;
  return query
  with closed as materialized (
    select * from outboxd.explain_pauses(fact.queue, fact.types, array(
        select one.campaign
        from outboxd.email as one
        where one.id = fact.id or fact.finishes and one.id in (
          select other.id
          from outboxd.batch_member as mine
          join outboxd.batch_member as other on other.batch_uid = mine.batch_uid
          where mine.id = fact.id)),
      fact.senders, fact.recipients, instant)
  ), given as (
    select * from (values
      (1, 'state', 'pass', null::timestamptz, case
        when fact.lane < 0 and fact.lane <> -1000 then 'waits, to be asked alone: it was in hand at a crash'
        when fact.batched then 'waits in a batch that was asked for'
        else 'waits' end),
      (2, 'held back', case when fact.lane = -1000 or fact.due_at >= '9999-01-01 utc' then 'hold' end, null,
        'this database is a copy, or failed over: see outboxd adopt'),
      (3, 'due time', case when fact.due_at > instant then 'hold' end, fact.due_at,
        coalesce(format('attempt %s failed: %s', nullif(fact.attempts, 0), fact.last_error), 'scheduled')),
      (6, 'lane', case when fact.lane_closed then 'hold' end, fact.lane_until,
        format('waits in the lane of %s %s', fact.lane_kind, fact.lane_key)),
      (7, 'accepted', case when fact.accepted then 'end' end, null, 'an ask of before was accepted: it ends as sent'),
      (8, 'cancel', case when fact.cancelled and not fact.finishes then 'end' end, null, 'taken back'),
      (9, 'expiry', case when fact.expires_at <= instant and not fact.finishes then 'end' end, null,
        'expires_at has passed'),
      (10, 'suppression', case when not fact.finishes and fact.unwanted is not null then 'end' end, null, fact.unwanted),
      (11, 'key life', case when fact.open and fact.first_asked_at + interval '23 h' <= instant then 'end' end, null,
        'an ask of 23 hours ago is still open: it ends as unknown')
    ) as said (step, gate, verdict, free_at, detail)
    union all
    select kind.step, kind.name || ' pause', case when closed.kind is not null then 'hold' end, closed.until, closed.detail
    from (values (4, 'account'), (5, 'queue'), (12, 'domain'), (13, 'type'), (14, 'campaign'), (15, 'provider')) as kind (step, name)
    left join closed on closed.kind = kind.name
    union all
    select 4.5, 'breaker', case when bool_and(coalesce(breaker.state, 'closed') <> 'closed') then 'hold' end,
      greatest(min(breaker.probe_at), instant),
      format('the provider is ill: %s; the next probe goes then', string_agg(breaker.cause, '; '))
    from (
      select account.name from outboxd.account union select breaker.account from outboxd.breaker) as known (account)
    left join outboxd.breaker on breaker.account = known.account
    union all
    select 100 + ours.place, ours.kind || ' limit', case when ours.held then 'hold' end, ours.free_at,
      format('%s of %s in %s for %s', ours.used, coalesce(ours.most::text, 'any'), ours.per, ours.key)
    from outboxd.explain_limits(
      fact.id, fact.queue, fact.type, fact.campaign, fact.tenant, fact.recipients, instant) as ours
    union all
    select 1000, 'account pace', case when min(paced.next_at) > instant then 'hold' end, min(paced.next_at),
      'the next request of the account may leave then'
    from (
      select case when least(account.rate, account.adapted) is null then instant else account.next_at end as next_at
      from outboxd.account) as paced
  ), judged as materialized (
    select row_number() over (order by given.step) as step, given.gate, coalesce(given.verdict, 'pass') as verdict,
      case when given.verdict = 'hold' then given.free_at end as free_at,
      case when given.verdict is not null or given.step = 1 or given.step between 100 and 999 then given.detail end as detail,
      given.step between 100 and 999 as limits
    from given
  ), stopped as materialized (
    select judged.step, judged.gate, judged.verdict, judged.detail
    from judged
    where judged.verdict <> 'pass'
    order by judged.limits and judged.step > (select min(one.step) from judged as one where one.verdict <> 'pass'
        and not one.limits), case when judged.limits then 0 else judged.step end, judged.free_at desc, judged.step
    limit 1
  ), answer as (
    select max(judged.step) as step, bool_or(judged.verdict = 'end') as ends,
      case when not bool_or(judged.verdict = 'end' or judged.verdict = 'hold' and judged.free_at is null)
        then coalesce(max(judged.free_at), instant) end as earliest,
      string_agg(judged.gate, ', ' order by judged.step) filter (where judged.verdict = 'end') as ended_by
    from judged
  )
  select judged.step, judged.gate, judged.verdict, coalesce(judged.step = stopped.step, false), judged.free_at, judged.detail
  from judged
  left join stopped on true
  union all
  select answer.step + 1, 'place', 'pass', false, null, case when fact.batched then 'batches are asked in the order in which they fall due'
    else outboxd.explain_place(fact.id, fact.queue_id, fact.lane, fact.priority, fact.due_at) end
  from answer
  union all
  select answer.step + 2, 'answer', coalesce(stopped.verdict, 'pass'), false,
    case when answer.earliest < least(fact.expires_at,
        case when fact.open then fact.first_asked_at + interval '23 h' end) is not false then answer.earliest end,
    case
      when stopped.step is null then 'may go now'
      when stopped.verdict = 'end' then format('is not sent: %s', stopped.gate)
      else format('held by %s', stopped.gate) || case
        when answer.ends then format(', and then not sent: %s', answer.ended_by)
        when answer.earliest >= fact.expires_at and not fact.finishes then ', and expires before that'
        when fact.open and answer.earliest >= fact.first_asked_at + interval '23 h' then ', and its key''s life ends before that'
        else '' end
    end
  from answer
  left join stopped on true
  order by 1;
end
$$;
