-- Make the account known, at the rate that accounts start with; returns the rate that is named and the adapted one.
insert into outboxd.account as known (name) values (%(name)s)
on conflict (name) do update set name = known.name
returning known.rate, known.adapted
