-- Which of these addresses get no email of this queue and type at an instant, and the gravest reason why. One descent of
-- the key per address. Without a search_path of its own, so that the planner takes it into the statement that asks.
create or replace function outboxd.unwanted(recipients text[], queue text, type text, at timestamptz)
returns table (address text, reason text, scope text)
language sql stable
as $$
  select mailbox.address, found.reason, found.scope
  from outboxd.secret
  cross join lateral unnest(recipients) as mailbox (address)
  cross join lateral (
    select suppression.reason, suppression.scope
    from outboxd.suppression
    where suppression.address_hash = outboxd.keyed_hash(mailbox.address, secret.inner_pad, secret.outer_pad)
      and array_position(array['all', queue, type], suppression.scope) is not null
      and (suppression.expires_at is null or suppression.expires_at > at)
    order by outboxd.gravity(suppression.reason), suppression.scope
    limit 1) as found
$$;
