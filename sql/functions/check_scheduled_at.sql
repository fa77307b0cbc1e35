-- The provider's own schedule: an instant in ISO 8601 with a zone. Words ("in 1 hour") would mean another time at
-- each attempt; providers refuse more than milliseconds and more than 30 days.
create or replace function outboxd.check_scheduled_at(given jsonb) returns void
language plpgsql stable
as $$
declare
  instant timestamptz;
begin
  if jsonb_typeof(given) <> 'string'
    or given #>> '{}' !~ '^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d)$'
  then
    perform outboxd.refuse_payload(
      'payload.scheduled_at', 'must be an ISO 8601 time with a zone',
      'Write 2030-01-31T09:00:00Z, milliseconds at most; words have no stable meaning on a retry.');
  end if;
  begin
    instant := (given #>> '{}')::timestamptz;
  exception when datetime_field_overflow or invalid_datetime_format or invalid_parameter_value then
    perform outboxd.refuse_payload('payload.scheduled_at', 'is not a date that exists', 'Check month, day and hour.');
  end;
  if instant > clock_timestamp() + interval '30 days' then
    perform outboxd.refuse_payload(
      'payload.scheduled_at', 'is more than 30 days ahead', 'Use the column scheduled_at: outboxd waits up to a year.');
  end if;
end
$$;
