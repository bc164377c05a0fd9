"""Stand-in for Stripe: its API, and the customers and banks behind it."""

from infra.local.cloud.store import Store
from infra.local.cloud.stripe_api import Api, refuse
from infra.local.cloud.stripe_charges import Charges
from infra.local.cloud.stripe_checkout import Checkout
from infra.local.cloud.stripe_customers import Customers
from infra.local.cloud.stripe_disputes import Disputes
from infra.local.cloud.stripe_endpoints import Endpoints
from infra.local.cloud.stripe_intents import PaymentIntents
from infra.local.cloud.stripe_lists import Lists
from infra.local.cloud.stripe_pay_page import PayPage
from infra.local.cloud.stripe_payments import Payments
from infra.local.cloud.stripe_records import Records
from infra.local.cloud.stripe_refunds import Refunds
from infra.local.cloud.stripe_webhooks import Webhooks

__all__ = ["Stripe", "refuse"]


class Stripe:
    """The calls that top-ups, refunds, disputes, saved cards, reconciliation and set-up need.

    What customers and their banks do has forms of its own, which ask for no key:

    - `POST /pay/{checkout session}` method: a button of the pay page
    - `POST /_cards/{payment method}` behaviour: succeed, decline or authentication_required
    - `POST /_refunds/{refund}` outcome: succeeded (a pending one) or failed
    - `POST /_disputes` payment_intent, and optionally amount, fee, reason, inquiry=true
    - `POST /_disputes/{dispute}` outcome: won (fee_returned=true gives that back, too) or lost; of
      an inquiry: escalated or warning_closed
    - `POST /_webhooks` deliver=false: events are lost on their way, until deliver=true
    """

    def __init__(self, url: str, secret_key: str, store: Store, webhooks: Webhooks) -> None:
        records = Records(store, webhooks)
        api = Api(secret_key, store, records, webhooks)
        charges = Charges(records)
        customers = Customers(api, records, store)
        payments = Payments(records, charges)
        checkout = Checkout(api, records, store, f"{url}/pay")
        PaymentIntents(api, records, customers, charges, payments)
        Refunds(api, records, charges)
        Disputes(api, records, charges)
        PayPage(api, records, webhooks, checkout, customers, charges, payments)
        Lists(api, records)
        Endpoints(api, records, store)
        api.control("/_webhooks", webhooks.configure)
        self.router = api.router
