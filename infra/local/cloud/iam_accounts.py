"""The service accounts of the project, and what they have signed."""

import base64
from secrets import randbelow, token_bytes
from time import time

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from infra.local.cloud.store import Document, Store
from infra.local.layout import GOOGLE_PROJECT, INVOKER, SIGNER

DOMAIN = f"{GOOGLE_PROJECT}.iam.gserviceaccount.com"
# Terraform makes these.
_GIVEN = (INVOKER, SIGNER)


class Accounts:
    """All of them sign with one key, which Google keeps for them: who signed is in the text."""

    def __init__(self, store: Store, private_key: str) -> None:
        key = load_pem_private_key(private_key.encode(), password=None)
        if not isinstance(key, RSAPrivateKey):
            raise TypeError("service accounts sign with RSA")
        self._store, self._key = store, key
        for email in _GIVEN:
            if self.find(email) is None:
                self.make(email.partition("@")[0], {})

    def make(self, account_id: str, asked: Document) -> Document:
        """Make an account. One of the same name as a deleted one is another one."""
        email, unique_id = f"{account_id}@{DOMAIN}", f"1{randbelow(10**20):020}"
        made: Document = {
            "name": f"projects/{GOOGLE_PROJECT}/serviceAccounts/{email}",
            "projectId": GOOGLE_PROJECT,
            "uniqueId": unique_id,
            "email": email,
            "etag": base64.b64encode(token_bytes(6)).decode(),
            "oauth2ClientId": unique_id,
        }
        made |= {key: asked[key] for key in ("displayName", "description") if asked.get(key)}
        self._store.put("iam.account", email, made)
        return made

    def find(self, name: str) -> Document | None:
        """Find an account by its address or its number."""
        account = self._store.get("iam.account", name)
        if account is None and name.isdecimal():
            numbered = [each for each in self.all() if each["uniqueId"] == name]
            account = numbered[0] if numbered else None
        return account

    def all(self) -> list[Document]:
        """List all accounts."""
        return self._store.all("iam.account")

    def remove(self, account: Document) -> None:
        """Delete an account and who may act as it."""
        self._store.delete("iam.account", account["email"])
        self._store.delete("iam.policy", account["uniqueId"])

    def may_exist(self, email: str) -> bool:
        """Tell whether an account exists, as far as we know: other projects have theirs."""
        return not email.endswith(f"@{DOMAIN}") or self.find(email) is not None

    def sign(self, message: bytes) -> tuple[str, bytes]:
        """Sign a text; give the name of the key, too."""
        # It is rotated each day.
        return f"{int(time()) // 86400:040x}", self._key.sign(message, PKCS1v15(), SHA256())

    def has_signed(self, email: str, message: bytes, signature: str) -> bool:
        """Tell whether an account that still exists has signed a text."""
        if self.find(email) is None:
            return False
        try:
            self._key.public_key().verify(bytes.fromhex(signature), message, PKCS1v15(), SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True
