-- Remove workers that ended, or have not been heard of for a day.
delete from outboxd.worker
where worker.worker = %(worker)s::uuid or worker.beat_at < clock_timestamp() - interval '1 d'
