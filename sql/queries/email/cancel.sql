-- Take an email back; true where it is certain that it is not sent.
select outboxd.cancel(%(uid)s)
