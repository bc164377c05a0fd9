"""The customers: a few whose wallets everybody wants, and many others."""

from dataclasses import dataclass, field
from secrets import token_urlsafe

from infra.torture.stage import Stage

HOT, OTHERS = 4, 60
_CREDIT = """
select billing.credit_wallet(%s, %s, 'promotional', 'promotion', 'registration_bonus', null)
"""
_PASSPORT = """
insert into billing.passports (organization_id, name, permissions, key_hash, key_prefix, created_by)
values (%s, 'torture', array['read', 'write', 'billing'], sha256(%s::bytea), %s, 'operator')
"""


@dataclass
class Wallet:
    """An organization, its passport, and what runs and is kept there as far as clients know."""

    id: str
    passport: str
    sessions: list[str] = field(default_factory=list)
    storage: list[str] = field(default_factory=list)
    top_ups: list[str] = field(default_factory=list)


@dataclass
class Town:
    """All customers, and the operator."""

    operator: str
    hot: list[Wallet]
    others: list[Wallet]


def found(stage: Stage) -> Town:
    """Make them, set-up money included."""
    operator = _key()
    with stage.owner() as connection:
        connection.execute(
            "select billing.create_operator('Operator', sha256(%s::bytea), %s)",
            [operator.encode(), operator[:12]],
        )
    hot = [make_wallet(stage, 1_000_000_000) for _ in range(HOT)]
    return Town(operator, hot, [make_wallet(stage, 3_000_000) for _ in range(OTHERS)])


def make_wallet(stage: Stage, micros: int) -> Wallet:
    """Make a customer with so much money."""
    key = _key()
    with stage.owner() as connection:
        row = connection.execute(
            "select billing.create_organization('Torture', 'pro', %s, billing.now())::text",
            [f"{key[8:24].lower()}@example.com"],
        ).fetchone()
        assert row is not None  # noqa: S101  it answers one row
        connection.execute(_CREDIT, [row[0], micros])
        connection.execute(_PASSPORT, [row[0], key.encode(), key[:12]])
    return Wallet(row[0], key)


def _key() -> str:
    return f"fg_live_{token_urlsafe(32)}"
