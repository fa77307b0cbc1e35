-- Let email go to one address again; how many suppressions were taken away.
select outboxd.unsuppress(%(address)s, %(scope)s, %(erased)s) as removed
