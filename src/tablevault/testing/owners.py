"""Conformance checks of the owners of attempts."""

from __future__ import annotations

from collections.abc import Callable

from tablevault.ports import Owners

MakeOwners = Callable[[], Owners]
"""Returns the owners of the same vault, as another interpreter sees them."""
OwnersCheck = Callable[[MakeOwners], None]

_OTHER_TEXTS = ("", "owner", "owner-1", "../owner-1-0", "owner-1-" + "0" * 32)


def an_owner_is_alive_until_it_releases_its_lease(make: MakeOwners) -> None:
    """Every view of the owners sees a lease begin and end."""
    owners, others = make(), make()
    lease = owners.claim()
    assert owners.is_alive(lease.name)
    assert others.is_alive(lease.name)
    assert others.names() == [lease.name]
    assert others.process_number(lease.name) > 0
    assert not lease.is_inherited
    lease.release()
    assert not owners.is_alive(lease.name)
    assert not others.is_alive(lease.name)


def each_owner_has_a_name_of_its_own(make: MakeOwners) -> None:
    """Names are never used again, and begin with the kind of the owner."""
    owners = make()
    leases = [owners.claim(kind) for kind in ("owner", "worker", "recovery") for _ in range(3)]
    found = [lease.name for lease in leases]
    assert len(set(found)) == 9
    assert [name.partition("-")[0] for name in found] == ["owner"] * 3 + ["worker"] * 3 + ["recovery"] * 3
    assert make().names() == sorted(found)
    leases[0].release()
    assert owners.claim().name not in found
    assert all(owners.is_alive(lease.name) for lease in leases[1:])


def live_owners_are_not_forgotten_with_the_dead(make: MakeOwners) -> None:
    """Only a dead owner is forgotten; forgetting it again is a no-op."""
    owners = make()
    dead, alive = owners.claim(), owners.claim()
    dead.release()
    for _ in range(2):
        make().forget(dead.name)
        make().forget_dead()
    assert owners.names() == [alive.name]
    assert owners.is_alive(alive.name)


def other_texts_are_no_owners(make: MakeOwners) -> None:
    """A text that names no owner is not alive, and may be forgotten."""
    owners = make()
    lease = owners.claim()
    for text in (*_OTHER_TEXTS, None):
        assert not owners.is_alive(text)
        owners.forget(text)
    assert owners.names() == [lease.name]
    assert all(owners.process_number(text) == 0 for text in _OTHER_TEXTS[:4])


def there_are_no_owners_at_first(make: MakeOwners) -> None:
    """Without a claim, nothing is listed."""
    owners = make()
    assert owners.names() == []
    owners.forget_dead()
    assert owners.host


OWNERS_CHECKS: tuple[OwnersCheck, ...] = (
    an_owner_is_alive_until_it_releases_its_lease,
    each_owner_has_a_name_of_its_own,
    live_owners_are_not_forgotten_with_the_dead,
    other_texts_are_no_owners,
    there_are_no_owners_at_first,
)
"""Checks of the `tablevault.ports.Owners` contract."""
