-- The server's identifier: made by initdb, kept by a base backup, new after a restore and after pg_upgrade. Some
-- services do not let everybody ask.
select pg_control_system.system_identifier::text from pg_control_system()
