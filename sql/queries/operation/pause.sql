-- Pause something by hand. Writes the operators' log.
select outboxd.pause(%(kind)s, %(key)s, %(reason)s, %(until)s::timestamptz) is null as paused
