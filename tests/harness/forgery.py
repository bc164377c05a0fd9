"""Tokens that anybody can make who knows what is public: a key set, and what tokens claim."""

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm

from infra.local.layout import SigningKey

Forge = Callable[[SigningKey, dict[str, Any]], str]

_STRANGER = ec.generate_private_key(ec.SECP256R1())
_OWN_JWK = ECAlgorithm.to_jwk(_STRANGER.public_key(), as_dict=True)


def _base64(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")


def _text(claims: dict[str, Any], **header: object) -> str:
    return ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))


def _signature(key: SigningKey, claims: dict[str, Any]) -> str:
    return key.sign(claims).rpartition(".")[2]


def _hs256(key: SigningKey, claims: dict[str, Any], secret: bytes) -> str:
    text = _text(claims, alg="HS256", typ="JWT", kid=key.public_jwk["kid"])
    return f"{text}.{_base64(hmac.digest(secret, text.encode(), 'sha256'))}"


def _pem(key: SigningKey) -> bytes:
    public: Any = jwt.PyJWK(key.public_jwk).key
    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def _by_stranger(claims: dict[str, Any], **header: object) -> str:
    return jwt.encode(claims, _STRANGER, "ES256", header)


FORGERIES: dict[str, Forge] = {
    "alg none": lambda key, claims: _text(claims, alg="none", kid=key.public_jwk["kid"]) + ".",
    "alg None": lambda _, claims: _text(claims, alg="None") + ".",
    "no alg": lambda _, claims: _text(claims, typ="JWT") + ".",
    "alg none with a signature": lambda key, claims: (
        f"{_text(claims, alg='none', kid=key.public_jwk['kid'])}.{_signature(key, claims)}"
    ),
    "HS256 with the public key": lambda key, claims: _hs256(key, claims, _pem(key)),
    "HS256 with the public key's line": lambda key, claims: _hs256(key, claims, _pem(key).strip()),
    "HS256 with the public JWK": lambda key, claims: _hs256(
        key, claims, json.dumps(key.public_jwk).encode()
    ),
    "HS256 with nothing": lambda key, claims: _hs256(key, claims, b""),
    "another key under our kid": lambda key, claims: _by_stranger(
        claims, kid=key.public_jwk["kid"]
    ),
    "another key in the header": lambda key, claims: _by_stranger(
        claims, kid=key.public_jwk["kid"], jwk=_OWN_JWK
    ),
    "another key set in the header": lambda _, claims: _by_stranger(
        claims, kid="k2", jku="https://evil.example/jwks.json"
    ),
    "unknown kid": lambda _, claims: _by_stranger(claims, kid="k2"),
    "no kid": lambda _, claims: _by_stranger(claims),
    "a kid that is a path": lambda _, claims: _by_stranger(claims, kid="../../etc/passwd"),
    "the signature of other claims": lambda key, claims: (
        f"{_text(claims, alg='ES256', typ='JWT', kid=key.public_jwk['kid'])}"
        f".{_signature(key, claims | {'jti': 'another'})}"
    ),
    "cut": lambda key, claims: key.sign(claims)[:-4],
    "no signature": lambda key, claims: key.sign(claims).rpartition(".")[0] + ".",
    "garbage": lambda _, __: "not.a.token",
}
