-- Roles and their rights: these, and no others. `outboxd migrate` applies this file each time, as far as its role may;
-- `outboxd migrate --roles` prints it for an administrator (run it in the database, after the migration). Repeatable.
-- Without these roles everything works as the one role that owns the schema. Roles belong to the server: all databases
-- of a server share them. They cannot log in: `grant outboxd_app to shop`.
do $$
declare
  roles constant text[] := array['outboxd_owner', 'outboxd_app', 'outboxd_daemon', 'outboxd_webhook', 'outboxd_admin',
    'outboxd_grafana'];
  me record;
  previous_owner name;
  entry record;
begin
  select rolname, rolsuper, rolsuper or rolcreaterole as may_create into me from pg_roles where rolname = current_user;
  select nspowner::regrole::name into previous_owner from pg_namespace where nspname = 'outboxd';

  if me.may_create then
    for entry in select role from unnest(roles) as role where to_regrole(role) is null loop
      begin
        execute format('create role %I nologin', entry.role);
      exception when duplicate_object or unique_violation then null;  -- another database's migration was first
      end;
    end loop;
  end if;

  -- The owner: nobody's login, so that `security definer` lends neither a superuser's rights nor the daemon's. Who
  -- owned the schema before, or migrates without being a superuser, is a member.
  if to_regrole('outboxd_owner') is not null then
    for entry in
      select rolname as name from pg_roles
      where rolname in (me.rolname, previous_owner) and not rolsuper and rolname <> 'outboxd_owner'
        and me.may_create and not pg_has_role(rolname, 'outboxd_owner', 'usage')
    loop
      begin
        execute format('grant outboxd_owner to %I', entry.name);
      exception when insufficient_privilege then null;  -- made by somebody else: an administrator decides
      end;
    end loop;
    if me.rolsuper or pg_has_role(me.rolname, 'outboxd_owner', 'usage') then
      for entry in
        select 1, format('schema %I', nspname) as object
        from pg_namespace where nspname = 'outboxd' and nspowner <> to_regrole('outboxd_owner')
        union all
        select 2, format('table %s', pg_class.oid::regclass)
        from pg_class
        where relnamespace = 'outboxd'::regnamespace and relkind in ('r', 'p', 'v')
          and relowner <> to_regrole('outboxd_owner')
        union all
        select 3, format('function %s', pg_proc.oid::regprocedure)
        from pg_proc where pronamespace = 'outboxd'::regnamespace and proowner <> to_regrole('outboxd_owner')
        order by 1
      loop
        execute format('alter %s owner to outboxd_owner', entry.object);
      end loop;
    end if;
  end if;

  -- Take back what any of them has, then give what is listed; in one transaction, so nobody sees the gap.
  for entry in
    select distinct granted.object, granted.grantee::regrole as role
    from (
      select format('table %s', pg_class.oid::regclass) as object, (aclexplode(relacl)).grantee
      from pg_class where relnamespace = 'outboxd'::regnamespace
      union all
      select format('table %s', attrelid::regclass), (aclexplode(attacl)).grantee
      from pg_attribute join pg_class on pg_class.oid = attrelid where relnamespace = 'outboxd'::regnamespace
      union all
      select format('function %s', pg_proc.oid::regprocedure), (aclexplode(proacl)).grantee
      from pg_proc where pronamespace = 'outboxd'::regnamespace
    ) as granted
    join pg_roles on pg_roles.oid = granted.grantee
    where pg_roles.rolname = any (roles) and pg_roles.rolname <> 'outboxd_owner'
  loop
    execute format('revoke all on %s from %s', entry.object, entry.role);
  end loop;

  for entry in
    select grantee, rights, object
    from (values
      -- Applications: insert on the parent table, what ORMs return, and the functions made for them.
      ('outboxd_app', 'insert (type, payload, queue, dedupe_key, scheduled_at, expires_at, priority, max_attempts, guard, campaign, tenant, trace), select (id, uid, created_at)', 'email'),
      ('outboxd_app', 'execute', 'enqueue'),
      ('outboxd_app', 'execute', 'enqueue_many'),
      ('outboxd_app', 'execute', 'cancel'),
      ('outboxd_app', 'execute', 'status'),
      ('outboxd_app', 'execute', 'suppressed'),

      -- The daemon: moves emails between the tables of their states. It writes no email and deletes no history; new
      -- partitions are made by a function of the owner.
      ('outboxd_daemon', 'select', 'schema_version'),
      ('outboxd_daemon', 'select', 'queue'),
      ('outboxd_daemon', 'select', 'email_type'),
      ('outboxd_daemon', 'select', 'email'),
      ('outboxd_daemon', 'select, insert, update, delete', 'ready'),
      ('outboxd_daemon', 'select, insert, update, delete', 'lease'),
      ('outboxd_daemon', 'select, insert, update, delete', 'progress'),
      ('outboxd_daemon', 'select, insert, update, delete', 'word'),  -- update: to lock, it writes none
      ('outboxd_daemon', 'select, insert', 'delivery'),
      ('outboxd_daemon', 'select, insert', 'attempt'),
      ('outboxd_daemon', 'select, insert, delete', 'dead_letter'),
      ('outboxd_daemon', 'select, insert, update', 'tally'),
      ('outboxd_daemon', 'select, insert, update, delete', 'worker'),
      ('outboxd_daemon', 'select, insert, update, delete', 'latency_bucket'),
      ('outboxd_daemon', 'select', 'secret'),
      ('outboxd_daemon', 'select', 'suppression'),
      ('outboxd_daemon', 'select', 'provider_domain'),
      ('outboxd_daemon', 'select', 'provider_mx'),
      ('outboxd_daemon', 'select, insert, update, delete', 'domain_mx'),
      ('outboxd_daemon', 'select, update, delete', 'recipient_count'),
      ('outboxd_daemon', 'select, update, delete', 'window_count'),
      ('outboxd_daemon', 'select, insert', 'clock_step'),
      ('outboxd_daemon', 'execute', 'unwanted'),
      ('outboxd_daemon', 'execute', 'provider_of'),
      ('outboxd_daemon', 'execute', 'is_exempt'),
      ('outboxd_daemon', 'execute', 'quota_closed_until'),
      ('outboxd_daemon', 'execute', 'keyed_hash'),
      ('outboxd_daemon', 'execute', 'gravity'),
      ('outboxd_daemon', 'execute', 'grant_limits'),
      ('outboxd_daemon', 'execute', 'give_back_limits'),
      ('outboxd_daemon', 'execute', 'open_lanes'),
      ('outboxd_daemon', 'select, insert, update', 'instance'),
      ('outboxd_daemon', 'select, insert, update, delete', 'batch'),
      ('outboxd_daemon', 'select, insert, update, delete', 'batch_member'),
      ('outboxd_daemon', 'select, insert, update', 'lane'),
      ('outboxd_daemon', 'select, insert, update, delete', 'pause'),
      ('outboxd_daemon', 'select, insert, update', 'account'),
      ('outboxd_daemon', 'select, insert, update', 'breaker'),
      ('outboxd_daemon', 'select, update, delete', 'hold'),
      ('outboxd_daemon', 'select', 'policy_version'),
      ('outboxd_daemon', 'select', 'limit_rule'),
      ('outboxd_daemon', 'select', 'provider_override'),
      ('outboxd_daemon', 'execute', 'extend_partitions'),

      -- Operators: see everything but bodies (those of dead letters excepted), act by functions, edit policy.
      ('outboxd_admin', 'select (id, uid, created_at, type, queue, priority, scheduled_at, expires_at, max_attempts, dedupe_key, tenant, recipients)', 'email'),
      ('outboxd_admin', 'select', 'schema_version'),
      ('outboxd_admin', 'select', 'attempt'),
      ('outboxd_admin', 'select', 'dead_letter'),
      ('outboxd_admin', 'select', 'instance'),
      ('outboxd_admin', 'select, insert, update, delete', 'queue'),
      ('outboxd_admin', 'select, insert, update, delete', 'email_type'),
      ('outboxd_admin', 'select', 'email_status'),
      ('outboxd_admin', 'select', 'queue_status'),
      ('outboxd_admin', 'select', 'dead_letters'),
      ('outboxd_admin', 'select', 'workers'),
      ('outboxd_admin', 'execute', 'enqueue'),
      ('outboxd_admin', 'execute', 'cancel'),
      ('outboxd_admin', 'execute', 'status'),
      ('outboxd_admin', 'execute', 'rebuild_ready'),
      ('outboxd_admin', 'execute', 'pause'),
      ('outboxd_admin', 'execute', 'resume'),
      ('outboxd_admin', 'execute', 'explain'),
      ('outboxd_admin', 'execute', 'set_queue'),
      ('outboxd_admin', 'execute', 'set_type'),
      ('outboxd_admin', 'execute', 'set_limit'),
      ('outboxd_admin', 'execute', 'whole_policy'),
      ('outboxd_admin', 'execute', 'suppress'),
      ('outboxd_admin', 'execute', 'suppress_many'),
      ('outboxd_admin', 'execute', 'unsuppress'),
      ('outboxd_admin', 'execute', 'suppressed'),
      ('outboxd_admin', 'execute', 'normalise_address'),
      ('outboxd_admin', 'select', 'suppression'),
      ('outboxd_admin', 'select', 'suppression_summary'),
      ('outboxd_admin', 'select', 'limit_usage'),
      ('outboxd_admin', 'execute', 'month_start'),
      ('outboxd_admin', 'select', 'provider_health'),
      ('outboxd_admin', 'select, insert, update, delete', 'provider_override'),
      ('outboxd_webhook', 'execute', 'suppress'),
      ('outboxd_admin', 'select', 'pauses'),
      ('outboxd_admin', 'select', 'breaker_status'),
      ('outboxd_admin', 'select', 'account'),
      ('outboxd_admin', 'select', 'throughput'),
      ('outboxd_admin', 'select', 'latency'),
      ('outboxd_admin', 'select', 'operator_log'),
      ('outboxd_admin', 'select', 'queue_policy'),
      ('outboxd_admin', 'select', 'type_policy'),
      ('outboxd_admin', 'select', 'limit_policy'),
      ('outboxd_admin', 'select', 'limit_rule'),

      -- Dashboards: views only.
      ('outboxd_grafana', 'select', 'email_status'),
      ('outboxd_grafana', 'select', 'queue_status'),
      ('outboxd_grafana', 'select', 'dead_letters'),
      ('outboxd_grafana', 'select', 'workers'),
      ('outboxd_grafana', 'select', 'pauses'),
      ('outboxd_grafana', 'select', 'breaker_status'),
      ('outboxd_grafana', 'select', 'throughput'),
      ('outboxd_grafana', 'select', 'latency'),
      ('outboxd_grafana', 'select', 'queue_policy'),
      ('outboxd_grafana', 'select', 'type_policy'),
      ('outboxd_grafana', 'select', 'limit_policy'),
      ('outboxd_grafana', 'select', 'suppression_summary'),
      ('outboxd_grafana', 'select', 'limit_usage'),
      ('outboxd_grafana', 'execute', 'month_start'),
      ('outboxd_grafana', 'select', 'provider_health')
    ) as listed (grantee, rights, object)
    where to_regrole(grantee) is not null
  loop
    execute format('grant %s on %s outboxd.%I to %I', entry.rights,
      case when entry.rights = 'execute' then 'function' else 'table' end, entry.object, entry.grantee);
  end loop;
  for entry in select role from unnest(roles) as role where to_regrole(role) is not null and role <> 'outboxd_owner' loop
    execute format('grant usage on schema outboxd to %I', entry.role);
  end loop;
end
$$;
