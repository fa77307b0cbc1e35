-- Put back what is in no table of a state, between two ids.
select outboxd.rebuild_ready(%(from_id)s, %(to_id)s, %(never_asked)s)
