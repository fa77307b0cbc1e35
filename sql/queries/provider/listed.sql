-- Every domain or pattern that is listed under a provider, and every known end of an exchanger's name.
select 'domain' as kind, provider_domain.domain as name, provider_domain.provider from outboxd.provider_domain
union all
select 'mx', provider_mx.suffix, provider_mx.provider from outboxd.provider_mx
