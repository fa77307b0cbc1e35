"""`python -m outboxd`."""

from outboxd.cli.main import main

main()
