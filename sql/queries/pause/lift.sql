-- End a pause that a probe found to be over. No row: it had ended already.
delete from outboxd.pause
where pause.kind = %(kind)s and pause.key = %(key)s and pause.by = 'outboxd'
returning pause.reason
