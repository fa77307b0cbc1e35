-- Keep what is known of an account: the rate that the provider's headers name, null where it names none.
insert into outboxd.account as known (name, rate) values (%(name)s, %(rate)s)
on conflict (name) do update set rate = excluded.rate where known.rate is distinct from excluded.rate
