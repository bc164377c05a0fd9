"""What a reader may see is looked up at each read: no token outlives a role."""

from collections.abc import Callable

import pytest

from tests.database import access
from tests.harness.answers import done
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform, User
from tests.harness.postgrest import Rest


class Changing:
    """An organization that bought credits, its owner, and somebody whose role changes."""

    def __init__(self, platform: Platform, function: Load, rest: Rest) -> None:
        self._rest, self._platform = rest, platform
        self._desk: Client = function("organizations")
        self.organization: Organization = platform.organization()
        AutoTopUps(platform, function).save_card(self.organization)
        self._owner, self.user = platform.user(), platform.user()
        platform.join(self._owner, self.organization, "owner")

    def appoint(self, role: str) -> None:
        done(self._desk.request("PUT", self._address, by=self._owner.token, json={"role": role}))

    def remove(self, by: User) -> None:
        assert self._desk.request("DELETE", self._address, by=by.token).status_code == 204

    def leave(self) -> None:
        self.remove(self.user)

    def be_removed(self) -> None:
        self.remove(self._owner)

    def be_deleted(self) -> None:
        self._platform.run("delete from auth.users where id = %s", self.user.id)

    def sees(self) -> set[str]:
        """Tell which views show rows."""
        readable = [view for view, readers in access.VIEWS.items() if readers]
        return {view for view in readable if self._rest.rows(view, by=self.user.token)}

    @property
    def _address(self) -> str:
        return f"/v1/organizations/{self.organization.id}/members/{self.user.id}"


@pytest.fixture
def changing(platform: Platform, function: Load, rest: Rest) -> Changing:
    return Changing(platform, function, rest)


_PAYMENTS = {"top_ups", "receipts"}


def test_a_role_counts_from_the_next_read_on(changing: Changing, platform: Platform) -> None:
    assert changing.sees() == set()
    platform.join(changing.user, changing.organization, "owner")
    everything = changing.sees()
    assert everything >= _PAYMENTS | {"wallets", "organizations", "members"}
    changing.appoint("member")
    assert changing.sees() == everything - _PAYMENTS
    changing.appoint("admin")
    assert changing.sees() == everything


@pytest.mark.parametrize("way", [Changing.leave, Changing.be_removed, Changing.be_deleted])
def test_who_is_gone_reads_nothing(
    changing: Changing, platform: Platform, way: Callable[[Changing], None]
) -> None:
    platform.join(changing.user, changing.organization, "admin")
    assert changing.sees()
    way(changing)
    assert changing.sees() == set()


def test_members_of_a_closed_organization_still_read_its_books(
    changing: Changing, platform: Platform
) -> None:
    platform.join(changing.user, changing.organization, "owner")
    before = changing.sees()
    platform.run(
        "update billing.organizations set closed_at = billing.now() where id = %s",
        changing.organization.id,
    )
    assert changing.sees() == before
