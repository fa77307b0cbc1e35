-- What DNS said about these domains, where that is not too old. A domain without a row here has to be looked up.
select domain_mx.domain, domain_mx.provider
from outboxd.domain_mx
where domain_mx.domain = any (%(domains)s::text[])
  and domain_mx.expires_at > (select clock_timestamp())
