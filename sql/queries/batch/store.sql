-- Bind members of one lease into batches: bytes, key and order are fixed here, before the first ask. Run after
-- batch/hold. A member that the lease has no more, or that another open batch has, refuses its whole batch.
-- Returns the batches that were stored.
with given as (
  select packed.*
  from unnest(
    %(batch_uids)s::uuid[], %(bodies)s::bytea[], %(queues)s::smallint[], %(lanes)s::integer[],
    %(attempts)s::smallint[], %(first_failed_at)s::timestamptz[], %(transient)s::boolean[]
  ) as packed (batch_uid, body, queue, lane, attempts, first_failed_at, transient)
), member as (
  select bound.id, bound.batch_uid, bound.place
  from unnest(%(ids)s::bigint[], %(members_of)s::uuid[], %(places)s::smallint[]) as bound (id, batch_uid, place)
), held as (
  select member.batch_uid
  from member
  group by member.batch_uid
  having bool_and(member.id in (
    select unnest(lease.ids) from outboxd.lease where lease.lease_id = %(lease_id)s::uuid))
), stored as (
  insert into outboxd.batch (batch_uid, body, frozen, queue, lane, attempts, first_failed_at, transient)
  select given.batch_uid, given.body, %(frozen)s::jsonb, given.queue, given.lane, given.attempts,
    given.first_failed_at, given.transient
  from given
  join held on held.batch_uid = given.batch_uid
  returning batch.batch_uid
), bound as (
  insert into outboxd.batch_member (id, batch_uid, place)
  select member.id, member.batch_uid, member.place
  from member
  join held on held.batch_uid = member.batch_uid
)
select stored.batch_uid from stored
