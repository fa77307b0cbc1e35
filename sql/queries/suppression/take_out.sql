-- Store who is taken out of which email of this lease, before its request exists. An email that was asked for before,
-- and certainly not accepted, gets a new key with the new bytes. Returns the emails that the lease still has.
insert into outboxd.progress as known (id, frozen)
select given.id, jsonb_build_object('removed', given.removed)
from unnest(%(ids)s::bigint[], %(removed)s::jsonb[]) as given (id, removed)
join outboxd.lease on lease.lease_id = %(lease_id)s::uuid and given.id = any (lease.ids)
on conflict (id) do update
set frozen = known.frozen || excluded.frozen,
  generation = known.generation + case when known.first_asked_at is null then 0 else 1 end
returning known.id, known.generation
