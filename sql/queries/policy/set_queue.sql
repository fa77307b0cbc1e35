-- Make, change or (settings null) remove one; what changed, {} for nothing. Refuses nonsense, naming the setting.
select outboxd.set_queue(%(name)s, %(settings)s::jsonb)
