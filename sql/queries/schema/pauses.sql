-- What is not asked for at present, for `outboxd check`.
select pauses.kind, pauses.key, pauses.reason, pauses.since, pauses.until from outboxd.pauses order by pauses.since
