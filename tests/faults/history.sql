-- The harness's own record of every move between the tables of states, written by triggers in the mover's transaction.
create schema faults;

-- What no step of the server's clock moves: seconds since the host was started.
create function faults.uptime() returns float8 language sql volatile as
$$ select split_part(pg_catalog.pg_read_file('/proc/uptime'), ' ', 1)::float8 $$;

create table faults.move (
  n bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  xid bigint not null default (pg_current_xact_id()::text)::bigint,
  uptime float8 not null default faults.uptime(),
  who text not null default current_setting('application_name'),
  place text not null,
  gone boolean not null,
  ids bigint[] not null,
  tag text,
  until timestamptz,
  gate text default current_setting('faults.gate', true)  -- whose connection: each daemon has its own
);

create function faults.came() returns trigger language plpgsql security definer as $$
begin
  if tg_table_name = 'lease' then
    insert into faults.move (place, gone, ids, tag, until)
    select 'lease', false, came.ids, came.lease_id::text, came.lease_until from came where came.ids <> '{}';
  elsif tg_table_name = 'delivery' then
    insert into faults.move (place, gone, ids)
    select came.state, false, array_agg(came.id) from came group by came.state;
  elsif tg_table_name = 'dead_letter' then
    insert into faults.move (place, gone, ids)
    select case came.certainty when 'not_accepted' then 'dead' else 'unknown' end, false, array_agg(came.id)
    from came group by came.certainty;
  elsif tg_table_name = 'batch_member' then
    insert into faults.move (place, gone, ids, tag)
    select 'batch', false, array_agg(came.id order by came.place), came.batch_uid::text from came group by came.batch_uid;
  elsif tg_table_name = 'progress' then
    insert into faults.move (place, gone, ids)
    select 'open', false, array_agg(came.id) from came where came.ambiguous having count(*) > 0;
  else
    insert into faults.move (place, gone, ids)
    select tg_table_name, false, array_agg(came.id) from came having count(*) > 0;
  end if;
  return null;
end
$$;

create function faults.went() returns trigger language plpgsql security definer as $$
begin
  if tg_table_name = 'lease' then
    insert into faults.move (place, gone, ids, tag)
    select 'lease', true, went.ids, went.lease_id::text from went where went.ids <> '{}';
  elsif tg_table_name = 'delivery' then
    insert into faults.move (place, gone, ids)
    select went.state, true, array_agg(went.id) from went group by went.state;
  elsif tg_table_name = 'dead_letter' then
    insert into faults.move (place, gone, ids)
    select case went.certainty when 'not_accepted' then 'dead' else 'unknown' end, true, array_agg(went.id)
    from went group by went.certainty;
  elsif tg_table_name = 'batch_member' then
    insert into faults.move (place, gone, ids, tag)
    select 'batch', true, array_agg(went.id), went.batch_uid::text from went group by went.batch_uid;
  elsif tg_table_name = 'progress' then
    insert into faults.move (place, gone, ids)
    select 'open', true, array_agg(went.id) from went where went.ambiguous having count(*) > 0;
  else
    insert into faults.move (place, gone, ids)
    select tg_table_name, true, array_agg(went.id) from went having count(*) > 0;
  end if;
  return null;
end
$$;

create function faults.changed() returns trigger language plpgsql security definer as $$
begin
  if tg_table_name = 'lease' then
    insert into faults.move (place, gone, ids, tag)
    select 'lease', true, array(select unnest(went.ids) except select unnest(came.ids)), went.lease_id::text
    from went join came on came.lease_id = went.lease_id where not went.ids <@ came.ids;
    insert into faults.move (place, gone, ids, tag, until)
    select 'lease', false, array(select unnest(came.ids) except select unnest(went.ids)), came.lease_id::text,
      came.lease_until
    from came join went on came.lease_id = went.lease_id where not came.ids <@ went.ids;
    insert into faults.move (place, gone, ids, tag, until)
    select 'renewed', false, came.ids, came.lease_id::text, came.lease_until
    from came join went on came.lease_id = went.lease_id
    where came.lease_until <> went.lease_until and came.ids <> '{}';
  elsif tg_table_name = 'progress' then
    insert into faults.move (place, gone, ids)
    select 'open', came.ambiguous < went.ambiguous, array_agg(came.id)
    from came join went on came.id = went.id where came.ambiguous <> went.ambiguous
    group by came.ambiguous < went.ambiguous;
    insert into faults.move (place, gone, ids)
    select 'window', false, array_agg(came.id)
    from came join went on came.id = went.id
    where went.ambiguous and came.first_asked_at is distinct from went.first_asked_at having count(*) > 0;
  elsif tg_table_name = 'batch' then
    insert into faults.move (place, gone, ids, tag)
    select 'batch_open', came.ambiguous < went.ambiguous, '{}', came.batch_uid::text
    from came join went on came.batch_uid = went.batch_uid where came.ambiguous <> went.ambiguous;
    insert into faults.move (place, gone, ids, tag)
    select 'batch_bytes', false, '{}', came.batch_uid::text
    from came join went on came.batch_uid = went.batch_uid where came.body <> went.body;
    insert into faults.move (place, gone, ids, tag)
    select 'batch_window', false, '{}', came.batch_uid::text
    from came join went on came.batch_uid = went.batch_uid
    where went.ambiguous and went.first_asked_at is distinct from came.first_asked_at and went.first_asked_at is not null;
  elsif tg_table_name = 'delivery' then
    insert into faults.move (place, gone, ids)
    select came.state, false, array_agg(came.id)
    from came join went on came.id = went.id where came.state <> went.state group by came.state;
    insert into faults.move (place, gone, ids)
    select went.state, true, array_agg(came.id)
    from came join went on came.id = went.id where came.state <> went.state group by went.state;
  end if;
  return null;
end
$$;

do $$
declare
  name text;
begin
  foreach name in array array['ready', 'lease', 'delivery', 'dead_letter', 'batch_member', 'progress'] loop
    execute format('create trigger faults_came after insert on outboxd.%I referencing new table as came
      for each statement execute function faults.came()', name);
    execute format('create trigger faults_went after delete on outboxd.%I referencing old table as went
      for each statement execute function faults.went()', name);
  end loop;
  foreach name in array array['lease', 'progress', 'batch', 'delivery'] loop
    execute format('create trigger faults_changed after update on outboxd.%I referencing old table as went new table as came
      for each statement execute function faults.changed()', name);
  end loop;
end
$$;

grant usage on schema faults to public;
