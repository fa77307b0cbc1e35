-- How grave a reason for suppression is: 1 is the gravest, null no reason. The gravest is kept where several apply.
create or replace function outboxd.gravity(reason text) returns integer
language sql immutable parallel safe
return array_position(
  array['gdpr', 'fraud', 'spam_complaint', 'feedback_loop', 'unsubscribe', 'hard_bounce', 'admin',
    'soft_bounce_persistent'], reason);
