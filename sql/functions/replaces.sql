-- Whether a new suppression takes the place of one that is held: where that has expired, or for a graver reason.
create or replace function outboxd.replaces(given outboxd.suppression, held outboxd.suppression) returns boolean
language plpgsql volatile
as $$
begin
  return held.expires_at <= clock_timestamp() or outboxd.gravity(given.reason) < outboxd.gravity(held.reason);
end
$$;
