"""Passwords at rest: salted scrypt."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from secrets import token_bytes

_COST = {"n": 2**14, "r": 8, "p": 1}


def hash_password(password: str) -> str:
    """Make what may be stored."""
    salt = token_bytes(16)
    return f"scrypt${b64encode(salt).decode()}${b64encode(_derive(password, salt)).decode()}"


def matches(password: str, stored: str | None) -> bool:
    """Compare in constant time."""
    scheme, _, rest = (stored or "").partition("$")
    salt, _, digest = rest.partition("$")
    if scheme != "scrypt":
        return False
    return hmac.compare_digest(_derive(password, b64decode(salt)), b64decode(digest))


def _derive(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)
