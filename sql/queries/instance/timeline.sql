-- The timeline that is written now. From the WAL position: the control file names the old one for a while after a
-- promotion.
select ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::integer
