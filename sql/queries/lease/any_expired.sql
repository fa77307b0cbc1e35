-- Whether there is anything to repair: a lease that ran out, a word that nobody has heard for a while, an ask of 23
-- hours ago without an answer. And the version of policy, so that daemons follow a change without a statement of its own.
select exists (
    select from outboxd.lease where lease.lease_until < (select coalesce(%(now)s::timestamptz, clock_timestamp())))
  or exists (
    select from outboxd.word
    where word.at < (select coalesce(%(now)s::timestamptz, clock_timestamp())) - interval '5 s')
  or exists (
    select from outboxd.progress
    where progress.ambiguous
      and progress.first_asked_at <= (select coalesce(%(now)s::timestamptz, clock_timestamp())) - interval '23 h')
  or exists (
    select from outboxd.batch
    where batch.ambiguous
      and batch.first_asked_at <= (select coalesce(%(now)s::timestamptz, clock_timestamp())) - interval '23 h')
    as anything,
  (select policy_version.version from outboxd.policy_version) as policy_version
