-- Daemons that beat within the last day. Nothing is decided by it: only leases count.
create or replace view outboxd.workers as
select
  worker.worker, worker.host, worker.pid, worker.version, worker.threads, worker.started_at, worker.beat_at,
  case
    when worker.beat_at < clock_timestamp() - interval '30 s' then 'gone'
    when worker.stopping then 'stopping'
    else 'running'
  end as state,
  (select coalesce(sum(cardinality(lease.ids)), 0) from outboxd.lease where lease.worker = worker.worker) as in_hand
from outboxd.worker
where worker.beat_at > clock_timestamp() - interval '1 d';
