"""What nobody may read in a log line: secrets that we hold, credentials that callers show."""

import json
import re
from urllib.parse import quote, unquote

CONCEALED = "[concealed]"

# Anything shorter is a word of the language: without it no line could be read.
_SHORTEST = 8

_ours: list[str] = []

# Whatever looks like a credential, in anybody's message: what it always contains, which is quickly
# looked for, and what it looks like. What is in the parentheses stays.
_CREDENTIALS = [
    # Passports, signed tokens, Stripe's and Supabase's keys, Google's tokens, private keys.
    ("fg_live_", re.compile(r"()fg_live_[\w-]+")),
    ("eyJ", re.compile(r"()eyJ[\w-]{6,}\.[\w-]+(?:\.[\w-]*)?")),
    ("k_", re.compile(r"()\b[sr]k_(?:live|test)_\w+")),
    ("whsec_", re.compile(r"()whsec_[\w+/=-]+")),
    ("sb_secret_", re.compile(r"()sb_secret_[\w-]+")),
    ("ya29.", re.compile(r"()ya29\.[\w.-]+")),
    ("PRIVATE KEY", re.compile(r"()-----BEGIN [A-Z ]*PRIVATE KEY.*?(?:-----END|\Z)", re.DOTALL)),
    ("earer ", re.compile(r"([Bb]earer\s+)[^\s\"',}]{8,}")),
    # In addresses: passwords, signatures of signed ones, tokens of invitations and sign-ins.
    ("://", re.compile(r"(://)[^\s/@]*:[^\s/@]+(?=@)")),
    *(
        (
            equals,
            re.compile(
                r"((?:[?&;#]|%3F|%26|%23)[\w.-]*"
                r"(?:token|signature|sig|secret|password|key|credential|invitation)"
                rf"{equals})(?:(?!%26|%23)[^\s&#\"'<>])+",
                re.IGNORECASE,
            ),
        )
        for equals in ("=", "%3D", "%3d")
    ),
]

# A name or an id of ours has at most 41 characters, a key of 256 bits in base64 at least 43.
_LONG_SEGMENT = re.compile(r"[^/]{42,}")


def never_show(secret: str | None) -> None:
    """Have a secret of ours concealed from now on, however it is written."""
    if not secret or len(secret) < _SHORTEST:
        return
    forms = {secret, unquote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1]}
    forms |= {repr(secret)[1:-1], repr(secret.encode())[2:-1]}
    _ours[:] = sorted({*_ours, *forms}, key=len, reverse=True)


def conceal(text: str) -> str:
    """Give a text without our secrets and anybody's credentials."""
    for secret in _ours:
        text = text.replace(secret, CONCEALED)
    for hint, credential in _CREDENTIALS:
        if hint in text:
            text = credential.sub(rf"\1{CONCEALED}", text)
    return text


def conceal_path(path: str) -> str:
    """Give the path of a request, into which a caller may have written anything."""
    return conceal(_LONG_SEGMENT.sub(CONCEALED, path))
