-- Let one more key belong to this database; the five newest do. Concurrent rotations may repeat one, which is harmless.
update outboxd.instance
set api_keys = (array[%(api_key)s::text] || instance.api_keys)[1:5]
where %(api_key)s::text <> all (instance.api_keys)
