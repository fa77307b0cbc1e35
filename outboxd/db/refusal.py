"""Why a connection was refused, in one line that a person can act on."""

from typing import Final

import psycopg

UNREADABLE: Final = "the connection URL cannot be read; it looks like postgresql://user@host:5432/database"

REMEDIES: Final = {
    "certificate verify failed": "the server's certificate is not signed by a CA that sslrootcert names",
    "does not match host name": "connect by a name that is in the server's certificate, or mend the certificate",
    "root certificate file": "name the CA's file with sslrootcert, or use sslrootcert=system",
    "server does not support SSL": "switch ssl on at the server; sslmode asks for it",
}


def reason(error: BaseException) -> str:
    """The server's or libpq's own words, the cause before the list of attempts, and what to do where that is known."""
    if isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None:
        return UNREADABLE  # libpq repeats the URL, and with it the password
    lines = [line.strip(" -\t") for line in str(error).strip().splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Multiple connection attempts"):
        lines = list(dict.fromkeys(lines[1:]))
    said = lines[0] if lines else type(error).__name__
    remedy = next((advice for words, advice in REMEDIES.items() if words in str(error)), None)
    return f"{said} ({remedy})" if remedy else said
