-- Open the lanes that limits of these keys closed, where they have room by now; see outboxd.open_lanes.
select outboxd.open_lanes(%(kinds)s::text[], %(keys)s::text[])
