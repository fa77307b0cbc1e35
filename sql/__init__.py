"""Plain SQL that ships with the package: functions, views, queries, and the picture of the schema."""
