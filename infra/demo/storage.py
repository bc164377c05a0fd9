"""Storage and spaces: rent a bucket, put something in it, buy a space, pay a month's rent."""

from decimal import Decimal
from time import monotonic, sleep

from infra.demo.customer import Customer, Document, expect, line, seconds_between, usd

_MONTH_SECONDS = 730 * 3600
_PATIENCE_SECONDS = 30
_SIZE_GB = 50


def _wait_until(customer: Customer, path: str, status: str) -> Document:
    """Wait until a storage resource is what it is to become: the cloud works meanwhile."""
    deadline = monotonic() + _PATIENCE_SECONDS
    while (storage := customer.get(path))["status"] != status:
        expect(storage["status"] != "failed", f"storage failed: {storage['failure']}")
        expect(monotonic() < deadline, f"storage is {storage['status']}, not {status}")
        sleep(0.1)
    return storage


def rent_a_bucket(customer: Customer) -> Document:
    """Rent a bucket in a workspace: money is held, a task makes it, then it is charged."""
    workspace = customer.post("/v1/workspaces", {"name": "Paper on perceptrons"})
    storage = customer.post(
        "/v1/storage",
        {"kind": "bucket", "size_gb": _SIZE_GB, "workspace_id": workspace["id"]},
    )
    line("rented a bucket, held for its first day", usd(storage["held"]), f"{_SIZE_GB} GB")
    ready = _wait_until(customer, f"/v1/storage/{storage['id']}", "ready")
    expect(Decimal(ready["charged"]) == 0, "it was charged before it was there")
    line(f"made by a task: {ready['resource_name'][:11]}…", remark="charged from now on")
    return ready


def use_a_bucket(customer: Customer, storage: Document) -> None:
    """Upload and download an object through signed addresses, without any key of the cloud."""
    path, text = f"/v1/storage/{storage['id']}", b"It is a machine that learns."
    upload = customer.post(
        f"{path}/uploads", {"object": "notes/perceptron.txt", "size_bytes": len(text)}
    )
    put = customer.http.put(upload["url"], content=text, headers=upload["headers"])
    expect(put.is_success, f"the upload was answered {put.status_code}")
    download = customer.post(f"{path}/downloads", {"object": "notes/perceptron.txt"})
    expect(customer.http.get(download["url"]).content == text, "what came back is something else")
    line("uploaded and downloaded by signed URL", f"{len(text)} bytes")
    forged = customer.http.get(download["url"].replace("perceptron", "transformer"))
    expect(forged.status_code == 403, "a signed address opens another object, too")
    line(f"the same address for another object: {forged.status_code}")


def buy_a_space(customer: Customer, storage: Document) -> None:
    """Buy a ready-made space, once, and attach it to the workspace."""
    purchase = customer.post("/v1/spaces/web-dev/purchases")
    line("bought the space web-dev", usd(purchase["price"]))
    again = customer.try_call("POST", "/v1/spaces/web-dev/purchases")
    expect(again.status_code == 409, "a space was sold twice")
    line(f"buying it again: {again.status_code} {again.json()['code']}")
    customer.post("/v1/spaces/web-dev/attach", {"workspace_id": storage["workspace_id"]})
    line("attached to the workspace, beside the bucket")


def pay_the_rent(customer: Customer, storage: Document) -> None:
    """Let a month (730 hours) pass: the charge is GB × price, to the cent; then give it up."""
    path = f"/v1/storage/{storage['id']}"
    customer.move_clock(_MONTH_SECONDS)
    rented = customer.get(path)
    wanted = Decimal(rented["gb_month_price"]) * _SIZE_GB
    expect(round(Decimal(rented["charged"]), 2) == wanted, f"a month was {rented['charged']}")
    line("a month later, charged", usd(rented["charged"]), f"{_SIZE_GB} × {wanted / _SIZE_GB}")
    customer.post(f"{path}/detach")
    customer.delete(path)
    deleted = _wait_until(customer, path, "deleted")
    seconds = seconds_between(deleted["ready_at"], deleted["ended_at"])
    exact = (wanted * seconds / _MONTH_SECONDS).quantize(Decimal("0.000001"))
    expect(str(exact) == deleted["cost"], f"{deleted['cost']} is not {exact}")
    line("deleted, charged exactly", usd(deleted["cost"]), f"{seconds:.6f} s")


def rent_and_buy(customer: Customer) -> None:
    """Live with storage and a space for a month."""
    storage = rent_a_bucket(customer)
    use_a_bucket(customer, storage)
    buy_a_space(customer, storage)
    pay_the_rent(customer, storage)
