"""What customers and operators do with spaces: bought, given back, bought again."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule

from tests.money.ledger import DOLLAR, new_key
from tests.money.operator_rules import OperatorRules
from tests.money.purse import Purchase
from tests.money.session_rules import keys, slots

SPACES = {
    "web-dev": 2 * DOLLAR,
    "data-science": 3 * DOLLAR,
    "research": 4 * DOLLAR,
    "ml-ready": 5 * DOLLAR,
}


class SpaceRules(OperatorRules):
    """Buy and give back."""

    @rule(slot=slots, slug=st.sampled_from(sorted(SPACES)), key=keys)
    def buy_space(self, slot: int, slug: str, key: str | None) -> None:
        slot %= len(self.customers)
        wallet, price = self.wallets[slot], SPACES[slug]
        code = "space_owned" if slug in wallet.owned else wallet.refusal(price, self.now)
        answer = self.do(
            slot,
            key,
            f"buy {slug}",
            code or "done",
            lambda k: self.ledger.call_one(
                "buy_space",
                caller=self.customers[slot].caller,
                slug=slug,
                idempotency_key=k or new_key(),
            ),
        )
        if answer is not None:
            wallet.expire_grants(self.now)
            pieces = wallet.draw(price, "revenue_spaces")
            wallet.purchases[answer["purchase"]["id"]] = Purchase(slug, pieces)

    @precondition(lambda self: any(w.purchases for w in self.wallets))
    @rule(number=st.integers(0, 3), key=keys)
    def refund_space(self, number: int, key: str | None) -> None:
        bought = [(n, i) for n, w in enumerate(self.wallets) for i in w.purchases]
        bought.sort(key=lambda found: found[1], reverse=True)
        slot, purchase_id = bought[number % len(bought)]
        purchase = self.wallets[slot].purchases[purchase_id]
        answer = self._operate(
            "refund_purchase", slot, key, "purchase_refunded" if purchase.is_refunded else "done",
            purchase_id=purchase_id, reason="by mistake",
        )  # fmt: skip
        if answer is not None:
            self.wallets[slot].refund(purchase)
