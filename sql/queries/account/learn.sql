-- Keep the rate that the provider's headers name, null where they name none, in place of the one that was known (`instead`)
-- when they were read. Nothing changes where another daemon has told a newer one meanwhile: the next answer says whether
-- that holds.
insert into outboxd.account as known (name, rate) values (%(name)s, %(rate)s)
on conflict (name) do update set rate = excluded.rate
where known.rate is not distinct from %(instead)s::float8 and known.rate is distinct from excluded.rate
