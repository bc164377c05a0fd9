"""statements: the receipt of a paid top-up."""

import io
from typing import Any

import pytest
from pypdf import PdfReader

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Event, Stripe, event, paid, unpaid


@pytest.fixture
def client(function: Load) -> Client:
    return function("statements")


@pytest.fixture
def stripe(function: Load, platform: Platform) -> Stripe:
    return Stripe(platform, function("credits"), function("stripe_webhook"))


@pytest.fixture
def buyer(platform: Platform) -> Organization:
    return platform.organization()


def _path(checkout: Event) -> str:
    return f"/v1/statements/receipts/{checkout['client_reference_id']}"


def _pay(stripe: Stripe, checkout: Event) -> str:
    """Pay; give the payment's name at Stripe."""
    told = paid(checkout)
    done(stripe.tell(told))
    return str(told["data"]["object"]["payment_intent"])


def _send_back(stripe: Stripe, payment: str, cents: int) -> None:
    refund = {
        "id": f"re_{payment}",
        "object": "refund",
        "payment_intent": payment,
        "amount": cents,
        "currency": "usd",
        "status": "succeeded",
    }
    done(stripe.tell(event("refund.created", refund)))


def _read(client: Client, organization: Organization, checkout: Event) -> PdfReader:
    response = client.get(_path(checkout), by=organization.passport)
    assert response.status_code == 200, response.text[:500]
    assert response.headers["content-type"] == "application/pdf"
    return PdfReader(io.BytesIO(response.content))


def _text(pdf: PdfReader) -> str:
    (page,) = pdf.pages
    return page.extract_text()


def test_a_receipt_says_who_paid_what_to_whom(
    function: Load, platform: Platform, stripe: Stripe, buyer: Organization
) -> None:
    client = function(
        "statements",
        SELLER_NAME="Acme Compute Inc.",
        SELLER_ADDRESS="1 Main Street; 12345 Springfield;Tax ID 12-3456789",
    )
    checkout = stripe.buy(buyer, "100.00")
    payment = _pay(stripe, checkout)
    response = client.get(_path(checkout), by=buyer.passport)
    pdf = PdfReader(io.BytesIO(response.content))
    ((number, email, paid_at),) = platform.fetch(
        "select number, billing_email, to_char(paid_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI')"
        " from api.receipts"
    )
    assert _text(pdf).splitlines() == [
        *["Acme Compute Inc.", "1 Main Street", "12345 Springfield", "Tax ID 12-3456789"],
        *["Receipt", f"Number {number}", f"Paid on {paid_at} UTC", f"Paid with Stripe {payment}"],
        *["Customer Acme", f"E-mail {email}", f"Organization {buyer.id}"],
        *["Prepaid credits USD 100.00", "Paid USD 100.00"],
        "With it came bonus credits of USD 5.00, free of charge.",
    ]
    assert response.headers["content-disposition"] == (
        f'attachment; filename="receipt_{number}.pdf"'
    )
    assert pdf.metadata is not None
    assert (pdf.metadata.title, pdf.metadata.author) == (f"Receipt {number}", "Acme Compute Inc.")


def test_a_receipt_is_the_same_file_each_time(
    client: Client, platform: Platform, stripe: Stripe, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    _pay(stripe, checkout)
    first = client.get(_path(checkout), by=buyer.passport)
    platform.advance(100_000)
    assert client.get(_path(checkout), by=buyer.passport).content == first.content


def test_every_receipt_has_its_own_number(
    client: Client, platform: Platform, stripe: Stripe, buyer: Organization
) -> None:
    titles = set()
    for _ in range(3):
        checkout = stripe.buy(buyer)
        _pay(stripe, checkout)
        metadata = _read(client, buyer, checkout).metadata
        assert metadata is not None
        titles.add(metadata.title)
    assert len(titles) == 3


def test_a_receipt_tells_what_went_back(
    client: Client, stripe: Stripe, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)
    payment = _pay(stripe, checkout)
    before = _text(_read(client, buyer, checkout))
    assert "Refunded" not in before
    assert "bonus" not in before
    _send_back(stripe, payment, 1050)
    after = _text(_read(client, buyer, checkout)).splitlines()
    assert after[-4:] == [
        *["Prepaid credits USD 25.00", "Paid USD 25.00"],
        *["Refunded since USD -10.50", "Paid and not returned USD 14.50"],
    ]


def test_what_was_not_paid_has_no_receipt(
    client: Client, stripe: Stripe, buyer: Organization
) -> None:
    checkout = stripe.buy(buyer)

    def refusal() -> Any:  # noqa: ANN401  a member of the document
        response = client.get(_path(checkout), by=buyer.passport)
        return problem(response, 409, "top_up_not_paid")["top_up_status"]

    assert refusal() == "pending"
    done(stripe.tell(unpaid(checkout)))
    assert refusal() == "processing"
    _pay(stripe, checkout)
    assert "USD 25.00" in _text(_read(client, buyer, checkout))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ünal & Søns Ωmega", "Ünal & Søns Ωmega"),
        ("Жук Ltd", "Жук Ltd"),
        ("Nguye\u0302\u0303n", "Nguyễn"),
        ("شركة الأمل", "شركة الأمل"),
        ("אבג", "אבג"),
        ("ไทย", "ไทย"),
        ("株式会社 Acme", "ZhuShiHuiShe Acme"),
        ("한국", "HanGug"),
        ("Acme 😀", "Acme :grinning:"),
        ("W" * 100, "W" * 36),
        ("a\u202eb\u2028c\u200d", "a"),
        ("\ue000", ""),
        ("<b>**Acme**</b> --x__", "<b>**Acme**</b> --x__"),
        ("%PDF-1.7) Tj ET (", "%PDF-1.7) Tj ET ("),
    ],
)
def test_any_name_can_be_read(
    client: Client,
    platform: Platform,
    stripe: Stripe,
    buyer: Organization,
    name: str,
    shown: str,
) -> None:
    platform.run("update billing.organizations set name = %s", name)
    checkout = stripe.buy(buyer)
    _pay(stripe, checkout)
    assert f"Customer {shown}".strip() in _text(_read(client, buyer, checkout))
