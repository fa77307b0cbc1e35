-- Whether the quota of an account made this lane. No row: it did not.
select lane.id from outboxd.lane where lane.id = %(lane)s::integer and lane.kind = 'quota'
