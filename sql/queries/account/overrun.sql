-- The provider said "too many requests": nobody asks before `after`, and not for 10 s at a second overrun in 60 s.
insert into outboxd.account as known (name, next_at, overran_at)
values (%(name)s, clock_timestamp() + %(after)s::interval, clock_timestamp())
on conflict (name) do update
set next_at = greatest(known.next_at, clock_timestamp() + case
      when known.overran_at > clock_timestamp() - interval '60 s' and known.overran_at < clock_timestamp() - interval '2 s'
      then greatest(interval '10 s', %(after)s::interval)
      else %(after)s::interval end),
  overran_at = clock_timestamp()
returning extract(epoch from known.next_at - clock_timestamp())::float8 as rest
