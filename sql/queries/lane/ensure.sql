-- The lane of something, made where there is none yet, and closed at least as long as given. Daemons only: an
-- application's INSERT creates no shared row.
insert into outboxd.lane as known (kind, key, closed_until) values (%(kind)s, %(key)s, %(closed_until)s::timestamptz)
on conflict (kind, key) do update set closed_until = greatest(known.closed_until, excluded.closed_until)
returning known.id
