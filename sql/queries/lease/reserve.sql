-- Find out what became of a claim whose COMMIT got no answer: writing the same lease id waits for the pending one.
-- A row: it was never committed, and this empty lease now makes sure of it. No row: it was; read it back.
insert into outboxd.lease (lease_id, worker, ids, frozen, claimed_at, lease_until)
values (%(lease_id)s, %(worker)s, '{}', '{}', clock_timestamp(), clock_timestamp())
on conflict do nothing
returning lease_id
