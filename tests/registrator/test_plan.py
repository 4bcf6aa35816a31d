"""What is to be done at the agent: by tables, and by a model of an agent on which any plan must settle."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registrator.model import Check, Registered, Registration, Status
from registrator.plan import Action, Deregister, Plan, Register, plan

OWNED = {"registrator": "node-1"}
CHECK = Check({"TCP": "127.0.0.1:80", "Interval": "10s"})


def wanted(
    service_id: str, port: int = 80, *, container: str = "c1", name: str = "web", check: Check | None = None
) -> Registration:
    meta = OWNED | ({"registrator_check": "d1"} if check else {})
    return Registration(container, service_id, name, "192.0.2.1", port, ("http",), meta, check)


def shown(registration: Registration) -> Registered:
    """What the agent shows of a registration."""
    checks: dict[str, Status] = {registration.check_id: "critical"} if registration.check else {}
    return Registered(
        registration.id,
        registration.name,
        registration.address,
        registration.port,
        registration.tags,
        registration.meta,
        checks,
    )


def foreign(service_id: str, name: str = "web", port: int = 80) -> Registered:
    return Registered(service_id, name, "192.0.2.1", port, ("http",), {"version": "1"})


def texts(found: Plan) -> list[str]:
    """The actions as `+id` and `-id`."""
    return [f"+{a.registration.id}" if isinstance(a, Register) else f"-{a.service_id}" for a in found.actions]


def problems(found: Plan) -> list[str]:
    assert {problem.kind for problem in found.problems} <= {"registration"}
    return [f"{problem.subject}: {problem.reason}" for problem in found.problems]


def test_what_is_not_there_is_registered_in_the_order_of_ids() -> None:
    found = plan([wanted("b"), wanted("a")], [])
    assert texts(found) == ["+a", "+b"]
    assert [registration.id for registration in found.accepted] == ["a", "b"]


def test_what_is_there_is_not_written_again() -> None:
    services = [wanted("a"), wanted("b", check=CHECK)]
    found = plan(services, [shown(service) for service in services])
    assert texts(found) == []
    assert list(found.accepted) == services


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"address": ""},
        {"port": 81},
        {"tags": ()},
        {"tags": ("http", "x")},
        {"meta": {"registrator": "node-0"}},
        {"meta": {**OWNED, "zone": "a"}},
        {"meta": {**OWNED, "registrator_check": "d0"}},
    ],
)
def test_what_differs_is_written_in_place(change: dict[str, object]) -> None:
    other = dataclasses.replace(shown(wanted("a")), **change)  # type: ignore[arg-type]
    assert texts(plan([wanted("a")], [other])) == ["+a"]


def test_a_check_that_is_gone_or_another_is_written_anew() -> None:
    service = wanted("a", check=CHECK)
    assert texts(plan([service], [dataclasses.replace(shown(service), checks={})])) == ["+a"]
    other = dataclasses.replace(shown(service), meta={**OWNED, "registrator_check": "d0"})
    assert texts(plan([service], [other])) == ["+a"]
    assert texts(plan([wanted("a")], [shown(service)])) == ["+a"]  # it is to have none any more


def test_the_status_of_a_check_is_nothing_to_write_and_neither_is_a_check_of_others() -> None:
    service = wanted("a", check=CHECK)
    checks: dict[str, Status] = {service.check_id: "passing", "_service_maintenance:a": "critical"}
    assert texts(plan([service], [dataclasses.replace(shown(service), checks=checks)])) == []


def test_ghosts_are_removed_whatever_their_id_and_owner_and_others_stay() -> None:
    ghosts = [
        shown(wanted("old-host:web:80", 1)),
        dataclasses.replace(shown(wanted("x", 2)), meta={"registrator": "node-0"}),
    ]
    assert texts(plan([wanted("a")], [*ghosts, foreign("b"), foreign("old-host:db:1")])) == [
        "-old-host:web:80",
        "-x",
        "+a",
    ]
    assert texts(plan([], ghosts)) == ["-old-host:web:80", "-x"]
    assert texts(plan([wanted("a")], ghosts, cleanup=False)) == ["+a"]


def test_ids_that_are_kept_stay() -> None:
    assert texts(plan([], [shown(wanted("a")), shown(wanted("b"))], kept={"a"})) == ["-b"]


def test_a_renamed_host_or_container_leaves_no_gap() -> None:
    before = [shown(wanted("h1:web:80", 1)), shown(wanted("h1:db:90", 2, name="db")), shown(wanted("h1:gone:1", 3))]
    after = [wanted("h2:web:80", 1), wanted("h2:db:90", 2, name="db")]
    assert texts(plan(after, before)) == ["-h1:gone:1", "+h2:db:90", "+h2:web:80", "-h1:db:90", "-h1:web:80"]


def test_an_old_id_for_the_address_of_another_service_goes_first() -> None:
    before = [shown(wanted("h1:web:80", 1))]
    assert texts(plan([wanted("h1:db:90", 1, name="db")], before)) == ["-h1:web:80", "+h1:db:90"]


def test_of_two_containers_with_one_id_the_first_by_its_own_id_holds() -> None:
    first, second = wanted("shop", 1, container="aa" * 32), wanted("shop", 2, container="bb" * 32)
    for both in ([first, second], [second, first]):
        found = plan(both, [])
        assert found.actions == (Register(first),)
        assert problems(found) == ["container bbbbbbbbbbbb shop: container aaaaaaaaaaaa has the same service ID"]


def test_an_id_of_somebody_else_is_left_to_him() -> None:
    found = plan([wanted("a"), wanted("b")], [foreign("a", "consul"), foreign("c")])
    assert texts(found) == ["+b"]
    assert [registration.id for registration in found.accepted] == ["b"]
    assert problems(found) == ["container c1 a: somebody else has registered service consul with this ID"]


def test_what_the_original_registrator_left_is_taken_over_if_that_is_asked_for() -> None:
    services, others = [wanted("a"), wanted("b")], [foreign("a"), foreign("b", "db"), foreign("c")]
    found = plan(services, others, adopt=True)
    assert texts(found) == ["+a"]
    assert problems(found) == ["container c1 b: somebody else has registered service db with this ID"]


# Any plan, carried out, settles.

IDS = st.sampled_from("abcd")
REGISTRATIONS = st.builds(
    wanted,
    IDS,
    st.integers(1, 3),
    container=st.sampled_from(["c1", "c2"]),
    name=st.sampled_from(["web", "db"]),
    check=st.sampled_from([None, CHECK]),
)
# A container has no service ID twice.
SERVICES = st.lists(REGISTRATIONS, unique_by=lambda service: (service.container, service.id))
AGENTS = st.lists(
    st.one_of(st.builds(shown, REGISTRATIONS), st.builds(foreign, IDS, st.sampled_from(["web", "db"]))),
    unique_by=lambda service: service.id,
)


def carried_out(actions: Sequence[Action], agent: list[Registered]) -> list[Registered]:
    """An agent after these actions."""
    services = {service.id: service for service in agent}
    for action in actions:
        if isinstance(action, Deregister):
            del services[action.service_id]
        else:
            services[action.registration.id] = shown(action.registration)
    return list(services.values())


@given(SERVICES, AGENTS, st.sets(IDS), st.booleans())
def test_a_plan_reaches_what_is_wanted_and_a_second_one_is_empty(
    services: list[Registration], agent: list[Registered], kept: set[str], adopt: bool
) -> None:
    first = plan(services, agent, kept=kept, adopt=adopt)
    after = carried_out(first.actions, agent)
    second = plan(services, after, kept=kept, adopt=adopt)
    assert second.actions == ()
    assert second.accepted == first.accepted
    # Everything that is wanted is there or named, nothing of ours is left over, and nobody else has lost anything.
    ours = {service.id for service in after if "registrator" in service.meta}
    named = {problem.subject.split()[-1] for problem in first.problems}
    assert {service.id for service in services} <= ours | named
    assert ours <= {service.id for service in first.accepted} | kept
    others = [service for service in agent if "registrator" not in service.meta]
    assert [s for s in others if s not in after] == [s for s in others if adopt and s.id in ours]


@given(SERVICES, AGENTS, st.randoms(use_true_random=False))
def test_a_plan_does_not_depend_on_the_order_of_what_it_reads(
    services: list[Registration], agent: list[Registered], random: Random
) -> None:
    shuffled, others = list(services), list(agent)
    random.shuffle(shuffled)
    random.shuffle(others)
    assert plan(shuffled, others) == plan(services, agent)
