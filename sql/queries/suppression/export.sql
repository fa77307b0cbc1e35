-- Every suppression that holds and has a readable address, as `import` takes it; filters that are null match everything.
-- A cell that a spreadsheet would take for a formula gets a ' before it.
select
  regexp_replace(suppression.address, '^(?=''*[=+@\t\r\n-])', '''') as address,
  regexp_replace(suppression.scope, '^(?=''*[=+@\t\r\n-])', '''') as scope,
  suppression.reason,
  regexp_replace(suppression.source, '^(?=''*[=+@\t\r\n-])', '''') as source,
  regexp_replace(suppression.cause, '^(?=''*[=+@\t\r\n-])', '''') as cause,
  to_char(suppression.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as expires_at,
  to_char(suppression.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as created_at,
  nullif(suppression.metadata, '{}') as metadata
from outboxd.suppression
where suppression.address is not null
  and (suppression.expires_at is null or suppression.expires_at > (select clock_timestamp()))
  and (%(scope)s::text is null or suppression.scope = %(scope)s)
  and (%(reason)s::text is null or suppression.reason = %(reason)s)
