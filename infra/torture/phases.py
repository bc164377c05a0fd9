"""What is done to the platform. Each phase tells how many faults it made."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from time import monotonic, sleep

from infra.torture.actions import Customers
from infra.torture.client import caller
from infra.torture.load import Crowd
from infra.torture.provider import CENT, Event
from infra.torture.wallets import make_wallet

_CUT_CHANCE = 0.08
_LOCK_A_WALLET = """
select from billing.wallets
where organization_id = (
    select organization_id from billing.holds
    where kind = 'session' and due_at <= billing.now() order by random() limit 1
)
for update
"""
_KILL_SWEEPS = """
select pg_terminate_backend(pid) from pg_stat_activity
where state = 'active' and query like '%api.sweep_sessions%' and pid <> pg_backend_pid()
"""


@dataclass(frozen=True)
class Scene:
    """Who takes part, for how long, and what chance decides."""

    crowd: Crowd
    random: Random
    seconds: float
    scale: float

    def times(self) -> "Times":
        """Go on until the time is up."""
        return Times(monotonic() + self.seconds, self.random)


@dataclass
class Times:
    """Moments between which something breaks."""

    until: float
    random: Random

    def wait(self, shortest: float, longest: float) -> bool:
        """Let some time pass; tell whether there is more."""
        sleep(min(self.random.uniform(shortest, longest), max(self.until - monotonic(), 0)))
        return monotonic() < self.until


def mixed_load(scene: Scene) -> int:
    """Every action, on hot wallets and others; nothing breaks."""
    with scene.crowd.busy(scene.random):
        sleep(scene.seconds)
    return 0


def database_killed(scene: Scene) -> int:
    """Kill -9 every process of Postgres under load."""
    kills, times = 0, scene.times()
    with scene.crowd.busy(scene.random):
        while times.wait(0.2, 1.2):
            scene.crowd.stage.kill_database()
            kills += 1
    return kills


def functions_killed(scene: Scene) -> int:
    """Kill -9 one function after the other in the middle of its requests."""
    kills, times = 0, scene.times()
    functions = list(scene.crowd.stage.functions.values())
    with scene.crowd.busy(scene.random):
        while times.wait(0.1, 0.6):
            function = scene.random.choice(functions)
            function.kill()
            function.start()
            kills += 1
        for function in functions:
            function.await_ready()
    return kills


def connections_cut(scene: Scene) -> int:
    """Cut connections to functions and to Postgres: before, during and after the commit."""
    stage = scene.crowd.stage
    before = stage.cuts
    try:
        for proxy in stage.proxies:
            proxy.chance = _CUT_CHANCE
        mixed_load(scene)
    finally:
        for proxy in stage.proxies:
            proxy.chance = 0
    return stage.cuts - before


def sweeps_killed(scene: Scene) -> int:
    """Run sweeps over many due sessions; end their backends and kill -9 their function."""
    crowd, stage, kills = scene.crowd, scene.crowd.stage, 0
    function = stage.functions["sweep_sessions"]

    async def start_some(customers: Customers) -> None:
        for wallet in customers.town.others:
            await customers.start(wallet)

    crowd.do(2, scene.random, start_some)
    times = scene.times()
    sweeping = crowd.busy(scene.random, Customers.sweep, 2)
    with crowd.busy(scene.random), sweeping, stage.owner() as owner:
        while times.wait(0, 0.1):
            owner.execute("update billing.clock_offset set seconds = seconds + 301")
            with owner.transaction():
                # A sweep that comes here has locked its sessions and some of the wallets.
                owner.execute(_LOCK_A_WALLET)
                sleep(0.1)
                kills += len(owner.execute(_KILL_SWEEPS).fetchall())
            if scene.random.random() < 0.2:
                function.kill()
                function.start()
                kills += 1
        function.await_ready()
    return kills


def webhook_storm(scene: Scene) -> int:
    """A thousand events, each one to five times, shuffled, a tenth of them side by side."""
    number = round(1000 * scene.scale)
    events: list[Event] = []

    async def pay(customers: Customers) -> None:
        while len(events) < number:
            wallet = customers.random.choice([*customers.town.hot, *customers.town.others])
            payment = await customers.buy(wallet, customers.random.choice((10, 25, 100)))
            events.extend([payment.paid(), payment.noise(customers.random)])
            if customers.random.random() < 0.6:
                events.extend(customers.reverse(payment))

    scene.crowd.do(4, scene.random, pay)
    deliveries = [event for event in events for _ in range(scene.random.randint(1, 5))]
    scene.random.shuffle(deliveries)

    async def deliver(customers: Customers) -> None:
        while deliveries:
            at_once = deliveries.pop(), *([deliveries.pop()] if deliveries else [])
            if customers.random.random() < 0.1:
                at_once = (*at_once, at_once[0])
                await asyncio.gather(*(customers.client.deliver(event) for event in at_once))
            else:
                for event in at_once:
                    await customers.client.deliver(event)

    repeated = len(deliveries) - len(events)
    scene.crowd.do(2, scene.random, deliver)
    return repeated


def same_key_storm(scene: Scene) -> int:
    """64 clients send one request with one key: one effect, and one answer for all."""
    keys = [f"storm-{scene.random.getrandbits(64):016x}" for _ in range(round(50 * scene.scale))]
    wallet = make_wallet(scene.crowd.stage, 1000 * CENT)
    answers: dict[str, set[bytes]] = {key: set() for key in keys}

    async def open_holds(customers: Customers) -> None:
        body = {"organization_id": wallet.id, "amount": "0.01", "expires_in_seconds": 600}
        for key in keys:
            answer = await customers.client.post(
                "holds", "/v1/holds", body, by=customers.town.operator, key=key
            )
            answers[key].add(answer.content)
            customers.journal.note("hold", key, str(answer.body.get("id")))

    scene.crowd.do(64, scene.random, open_holds)
    different = [key for key, contents in answers.items() if len(contents) != 1]
    scene.crowd.journal.differences += [f"{key} was answered differently" for key in different]
    return 63 * len(keys)


def double_spend(scene: Scene) -> int:
    """64 clients want 100 cents each of a wallet with 1 000: exactly those are given."""
    cents, each = round(1000 * scene.scale), round(100 * scene.scale)
    wallet = make_wallet(scene.crowd.stage, cents * CENT)
    accepted: list[str] = []

    async def spend(customers: Customers) -> None:
        over_http = customers.random.random() < 0.5
        for _ in range(each):
            hold = await (customers.open_hold(wallet, 1, 6000) if over_http else _hold(customers))
            accepted.extend([hold] if hold else [])
            if customers.random.random() < 0.01:
                await customers.sweep()

    async def _hold(customers: Customers) -> str | None:
        key = customers.client.key()
        row = await customers.client.call(
            "open_hold",
            caller=caller(customers.town.operator),
            organization_id=wallet.id,
            amount_micros=CENT,
            expires_in_seconds=6000,
            description=None,
            idempotency_key=key,
        )
        if isinstance(row, str):
            if row != "insufficient_credits":
                customers.journal.differences.append(f"refused as {row}")
            return None
        customers.journal.note("hold", key, str(row["hold"]["id"]))
        return str(row["hold"]["id"])

    scene.crowd.do(64, scene.random, spend)
    if len(accepted) != cents:
        scene.crowd.journal.differences.append(f"{len(accepted)} accepted of {cents}")
    return 64 * each - cents


PHASES: dict[str, tuple[Callable[[Scene], int], bool]] = {
    "mixed load": (mixed_load, False),
    "Postgres killed": (database_killed, True),
    "functions killed": (functions_killed, True),
    "connections cut": (connections_cut, True),
    "sweeps killed": (sweeps_killed, True),
    "webhook storm": (webhook_storm, False),
    "same-key storm": (same_key_storm, False),
    "double spend": (double_spend, False),
}
"""Each with whether clients may be told to try again."""
