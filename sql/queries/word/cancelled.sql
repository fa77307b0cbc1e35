-- Which of these emails were taken back since their claim.
select word.id from outboxd.word where word.id = any (%(ids)s::bigint[]) and word.kind = 'cancel'
