def test_try(conn):
    from factories import insert, uid_of

    i = insert(conn)
    for row in conn.execute("select * from outboxd.explain(%s)", (uid_of(conn, i),)).fetchall():
        print(row)
    conn.execute("select outboxd.pause('provider','example.org','x')")
    conn.execute("select outboxd.pause('queue','transactional','y', clock_timestamp()+interval '1 h')")
    for row in conn.execute("select * from outboxd.explain(%s)", (uid_of(conn, i),)).fetchall():
        print(row)
