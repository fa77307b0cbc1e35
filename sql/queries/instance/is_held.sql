-- Whether anything is held back. No row: nothing is.
select 1 as held
where exists (select from outboxd.ready where ready.lane = %(held)s::integer)
  or exists (select from outboxd.batch where batch.due_at >= %(until)s::timestamptz)
