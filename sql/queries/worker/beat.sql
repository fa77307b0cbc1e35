-- Say that this worker lives, for people; nothing is decided by it.
insert into outboxd.worker as known (worker, host, pid, version, threads, stopping)
values (%(worker)s, %(host)s, %(pid)s, %(version)s, %(threads)s, %(stopping)s)
on conflict (worker) do update set beat_at = clock_timestamp(), stopping = excluded.stopping
