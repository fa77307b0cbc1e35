-- Make sure that a claim whose COMMIT got no answer is decided: writing the same lease id waits for it. Afterwards the
-- lease is there, with its emails if the claim was committed and empty if it never will be, and locked: what a pending
-- commit binds into batches is bound, and the next statement sees it.
insert into outboxd.lease (lease_id, worker, ids, frozen, claimed_at, lease_until)
values (%(lease_id)s, %(worker)s, '{}', '{}', clock_timestamp(), clock_timestamp())
on conflict (lease_id) do update set worker = excluded.worker
