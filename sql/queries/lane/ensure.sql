-- The lane of something, made where there is none yet. Daemons only: an application's INSERT creates no shared row.
insert into outboxd.lane as known (kind, key) values (%(kind)s, %(key)s)
on conflict (kind, key) do update set key = excluded.key
returning known.id
