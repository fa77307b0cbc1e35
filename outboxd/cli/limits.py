"""`outboxd limits`: how much may go to whom in how long."""

from outboxd.cli.rules import rules

COLUMNS = ("name", "kind", "key", "most", "per", "exempt_types", "pace", "critical_share", "starts_on")

limits = rules("limits", "List limits and change them.", COLUMNS)
