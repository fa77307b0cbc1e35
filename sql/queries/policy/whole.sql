-- All policy as one object: {section: {name: settings}}.
select outboxd.whole_policy()
