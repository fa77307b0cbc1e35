-- Suppress the entries of one chunk, all in one transaction; the positions of what is no address come back.
select many.added, many.changed, many.refused
from outboxd.suppress_many(
  %(addresses)s::text[], %(reasons)s::text[], %(scopes)s::text[], %(sources)s::text[], %(causes)s::text[],
  %(expiries)s::timestamptz[], %(metadata)s::jsonb[]) as many
