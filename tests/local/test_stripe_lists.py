"""Lists: newest first, page by page, through Stripe's own iterators."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import stripe

from tests.local.stand_ins import Shop, StandIns, run_shop


@pytest.fixture
def shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Give whoever sells credits."""
    with run_shop(stand_ins) as running:
        yield running


@pytest.fixture
def refunds(shop: Shop) -> list[str]:
    """Give the ids of a payment's 25 refunds, the newest first."""
    intent = shop.sell()
    made = [
        shop.client.v1.refunds.create({"payment_intent": intent.id, "amount": 100}).id
        for _ in range(25)
    ]
    return made[::-1]


@pytest.fixture
def of_payment(shop: Shop, refunds: list[str]) -> dict[str, Any]:
    """Give the filter that finds just these refunds."""
    return {"payment_intent": shop.client.v1.refunds.retrieve(refunds[0]).payment_intent}


def test_a_list_starts_with_the_newest_ten(
    shop: Shop, refunds: list[str], of_payment: dict[str, Any]
) -> None:
    page: Any = shop.client.v1.refunds.list(of_payment)  # type: ignore[arg-type]
    assert (page.object, page.url, page.has_more) == ("list", "/v1/refunds", True)
    assert [refund.id for refund in page] == refunds[:10]


@pytest.mark.parametrize("limit", [1, 24, 25, 100])
def test_a_list_knows_whether_it_goes_on(
    shop: Shop, refunds: list[str], of_payment: dict[str, Any], limit: int
) -> None:
    asked: Any = of_payment | {"limit": limit}
    page = shop.client.v1.refunds.list(asked)
    assert [refund.id for refund in page] == refunds[:limit]
    assert page.has_more == (limit < 25)


def test_a_list_goes_on_in_both_directions(
    shop: Shop, refunds: list[str], of_payment: dict[str, Any]
) -> None:
    older: Any = of_payment | {"starting_after": refunds[19]}
    page = shop.client.v1.refunds.list(older)
    assert ([refund.id for refund in page], page.has_more) == (refunds[20:], False)
    newer: Any = of_payment | {"ending_before": refunds[19], "limit": 5}
    page = shop.client.v1.refunds.list(newer)
    assert ([refund.id for refund in page], page.has_more) == (refunds[14:19], True)


@pytest.mark.parametrize("start", [{}, {"ending_before": True}])
def test_stripes_iterator_walks_all_pages(
    stand_ins: StandIns,
    shop: Shop,
    refunds: list[str],
    of_payment: dict[str, Any],
    start: dict[str, Any],
) -> None:
    backwards = {"ending_before": refunds[-1]} if start else {}
    asked: Any = of_payment | {"limit": 4} | backwards

    async def walk() -> list[str]:
        http = stripe.HTTPXClient(timeout=10, allow_sync_methods=False)
        client = stripe.StripeClient(
            stand_ins.layout.secrets.stripe_secret_key,
            base_addresses={"api": stand_ins.layout.stripe_url},
            http_client=http,
        )
        found = await client.v1.refunds.list_async(asked)
        walked = [refund.id async for refund in found.auto_paging_iter()]
        await http.close_async()  # type: ignore[no-untyped-call]
        return walked

    assert asyncio.run(walk()) == (refunds[-2::-1] if start else refunds)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        pytest.param({"limit": 0}, "limit", id="nothing"),
        pytest.param({"limit": 101}, "limit", id="too much"),
        pytest.param({"starting_after": "re_none"}, "starting_after", id="from nowhere"),
        pytest.param({"colour": "red"}, "colour", id="by what Stripe does not know"),
        pytest.param({"created": {"since": 7}}, "since", id="by an unknown bound"),
    ],
)
def test_a_list_is_not_cut(shop: Shop, asked: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refusal:
        shop.client.v1.refunds.list(asked)  # type: ignore[arg-type]
    assert (refusal.value.http_status, refusal.value.param) == (400, param)


def test_a_list_is_cut_by_time(shop: Shop, refunds: list[str], of_payment: dict[str, Any]) -> None:
    made = sorted(shop.client.v1.refunds.retrieve(each).created for each in refunds)

    def count(**bounds: int) -> int:
        asked: Any = of_payment | {"created": bounds, "limit": 100}
        return len(shop.client.v1.refunds.list(asked).data)

    assert count(gte=made[0], lte=made[-1]) == 25
    assert count(gt=made[0] - 1, lt=made[-1] + 1) == 25
    assert count(gt=made[-1]) == count(lt=made[0]) == 0
    assert count(gt=made[0]) == sum(moment > made[0] for moment in made)
    exact: Any = of_payment | {"created": made[0], "limit": 100}
    assert len(shop.client.v1.refunds.list(exact).data) == made.count(made[0])


def test_a_payment_is_found_from_every_side(shop: Shop) -> None:
    v1 = shop.client.v1
    checkout = shop.checkout(customer_creation="always")
    shop.choose(checkout, "card")
    paid = v1.checkout.sessions.retrieve(checkout.id)
    intent_id, customer_id = str(paid.payment_intent), str(paid.customer)
    assert v1.checkout.sessions.list({"payment_intent": intent_id}).data == [paid]
    assert v1.checkout.sessions.list({"status": "complete"}).data[0] == paid
    assert v1.payment_intents.list({"customer": customer_id}).data[0].id == intent_id
    assert v1.charges.list({"payment_intent": intent_id}).data[0].amount == 2500
    assert v1.charges.list({"customer": customer_id}).data[0].payment_intent == intent_id

    waiting = shop.checkout()
    assert v1.checkout.sessions.list({"status": "open"}).data[0] == waiting
    shop.client.v1.checkout.sessions.expire(waiting.id)
    assert v1.checkout.sessions.list({"status": "expired"}).data[0].id == waiting.id


def test_an_object_can_come_in_place_of_its_id(shop: Shop) -> None:
    intent = shop.sell()
    expanded: Any = shop.client.v1.payment_intents.retrieve(
        intent.id, {"expand": ["latest_charge.balance_transaction", "customer"]}
    )
    assert expanded.latest_charge.balance_transaction.amount == 2500
    assert expanded.customer is None
    page: Any = shop.client.v1.charges.list(
        {"payment_intent": intent.id, "expand": ["data.payment_intent"]}
    )
    assert page.data[0].payment_intent == intent
    with pytest.raises(stripe.InvalidRequestError):
        shop.client.v1.payment_intents.retrieve(intent.id, {"expand": ["status"]})
