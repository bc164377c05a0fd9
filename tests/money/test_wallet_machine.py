"""Whatever happens to a few wallets, in whatever order, the database does what the model does."""

import os

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.money.ledger import Ledger
from tests.money.machine import GB_PRICES, PRICES, STORAGE_WINDOWS
from tests.money.payment_rules import PaymentRules
from tests.money.session_rules import SessionRules
from tests.money.space_rules import SpaceRules
from tests.money.storage_rules import StorageRules
from tests.money.stored import SECOND, STEPS, Cellar


class WalletMachine(SessionRules, StorageRules, PaymentRules, SpaceRules):
    """Every action that moves money."""


def test_the_wallet_does_what_the_model_does(ledger: Ledger) -> None:
    ledger.pin_clock()
    ledger.run("update billing.plans set session_window_seconds = 61 where id = 'pro'")
    for plan, prices in PRICES.items():
        for tier, price in prices.items():
            ledger.set_price(plan, tier, price)
    for plan, price in GB_PRICES.items():
        ledger.run(
            "update billing.plans set storage_window_seconds = %s, storage_grace_seconds = %s,"
            " storage_read_only_seconds = %s, storage_notice_seconds = %s where id = %s",
            STORAGE_WINDOWS[plan] // SECOND,
            *(seconds // SECOND for seconds in STEPS.values()),
            plan,
        )
        ledger.run(
            "insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)"
            " values (%s, 'storage.bucket', 'gb_month', %s, '2026-06-01')",
            plan,
            price,
        )
    Cellar.windows, Cellar.gb_prices = STORAGE_WINDOWS, GB_PRICES
    WalletMachine.ledger = ledger
    run_state_machine_as_test(
        WalletMachine,
        settings=settings(
            max_examples=int(os.environ.get("FAREGATE_WALLET_EXAMPLES", "60")),
            stateful_step_count=40,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    for outcome, number in sorted(WalletMachine.covered.items()):
        print(f"{number:6}  {outcome}")  # noqa: T201  for pytest -s: what was covered
