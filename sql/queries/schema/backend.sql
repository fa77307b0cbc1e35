-- Which server process answers this connection's transaction: through a pooler, not always the same.
select pg_backend_pid()
