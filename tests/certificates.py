"""What tests of connections present: a certificate that nobody signed but itself, and a key."""

from pathlib import Path

SELF_SIGNED = Path(__file__).with_name("resend") / "self_signed.pem"
SECRET = "re_the_secret"
