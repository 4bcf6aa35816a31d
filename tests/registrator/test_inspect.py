"""What Docker's inspection says of a container, and what is made of it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from lb.errors import InspectError
from registrator.inspect import container
from registrator.model import Port, Published

ID = "5f" * 32

# What is read of an inspection by Docker 20.10, of `docker run -P --expose 53/udp -p 127.0.0.1:9000:81 ...`.
DOCUMENT: dict[str, Any] = {
    "Id": ID,
    "Name": "/web.1",
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "ExitCode": 0,
        "Health": {"Status": "healthy", "FailingStreak": 0, "Log": []},
    },
    "HostConfig": {
        "NetworkMode": "default",
        "PortBindings": {"81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}]},
    },
    "Config": {
        "Image": "registry.example:5000/team/web:1.2",
        "ExposedPorts": {"53/udp": {}, "80/tcp": {}, "81/tcp": {}},
        "Env": ["SERVICE_NAME=web", "PATH=/bin", "QUERY=a=b", "EMPTY=", "BARE", "PATH=/usr/bin"],
        "Labels": {"SERVICE_TAGS": "http", "org.example": ""},
    },
    "NetworkSettings": {
        "Ports": {
            "53/udp": None,
            "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "32768"}, {"HostIp": "::", "HostPort": "32768"}],
            "81/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9000"}],
        },
        "Networks": {
            "bridge": {"NetworkID": "aa", "IPAddress": "172.17.0.2", "GlobalIPv6Address": "2001:db8::2"},
            "six": {"NetworkID": "bb", "IPAddress": "", "GlobalIPv6Address": "2001:db8:0::3"},
            "none": {"NetworkID": "cc", "IPAddress": "", "GlobalIPv6Address": ""},
        },
    },
}

MISSING = object()


def document(**changes: Any) -> dict[str, Any]:
    """The document with parts changed: `State__Running=False`; `MISSING` takes one away."""
    found = copy.deepcopy(DOCUMENT)
    for path, value in changes.items():
        *parents, last = path.split("__")
        part = found
        for parent in parents:
            part = part[parent]
        if value is MISSING:
            del part[last]
        else:
            part[last] = value
    return found


def bindings(*pairs: tuple[str, str]) -> tuple[Published, ...]:
    listed = [{"HostIp": host_ip, "HostPort": port} for host_ip, port in pairs]
    found = container(document(NetworkSettings__Ports={"80/tcp": listed}))
    return next(port.published for port in found.ports if port.number == 80)


def test_a_running_container_with_everything() -> None:
    found = container(DOCUMENT)
    assert (found.id, found.name, found.image) == (ID, "web.1", "registry.example:5000/team/web:1.2")
    assert (found.running, found.paused, found.exit_code, found.health) == (True, False, 0, "healthy")
    assert found.network_mode == "bridge"
    assert found.networks == {"bridge": "172.17.0.2", "six": "2001:db8::3"}
    assert found.ports == (
        Port(53, "udp"),
        Port(80, "tcp", (Published("", 32768),)),
        Port(81, "tcp", (Published("127.0.0.1", 9000),)),
    )
    assert found.labels == {"SERVICE_TAGS": "http", "org.example": ""}
    assert found.environment == {
        "SERVICE_NAME": "web",
        "PATH": "/usr/bin",
        "QUERY": "a=b",
        "EMPTY": "",
    }


def test_what_docker_leaves_out_or_sets_to_null_is_empty() -> None:
    found = container({"Id": ID, "Name": "/a", "Config": {"Env": None, "Labels": None, "ExposedPorts": None}})
    assert (found.running, found.ports, found.networks, found.labels, found.environment) == (False, (), {}, {}, {})
    assert (found.image, found.health, found.network_mode) == ("", "", "bridge")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"State__Paused": True}, (True, True, 0)),
        ({"State__Restarting": True}, (False, False, 0)),
        ({"State__Running": False, "State__ExitCode": 137}, (False, False, 137)),
    ],
)
def test_states(changes: dict[str, Any], expected: tuple[bool, bool, int]) -> None:
    found = container(document(**changes))
    assert (found.running, found.paused, found.exit_code) == expected


@pytest.mark.parametrize(
    ("said", "health"),
    [("starting", "starting"), ("unhealthy", "unhealthy"), ("none", ""), ("", ""), (None, ""), ("dizzy", "")],
)
def test_health_that_nobody_knows_is_none(said: str | None, health: str) -> None:
    assert container(document(State__Health={"Status": said})).health == health
    assert container(document(State__Health=None)).health == ""


@pytest.mark.parametrize(
    ("mode", "read"),
    [("host", "host"), ("container:ab", "container:ab"), ("six", "six"), ("bb", "six"), ("", "bridge"), ("zz", "zz")],
)
def test_a_network_mode_is_the_name_of_a_network(mode: str, read: str) -> None:
    assert container(document(HostConfig__NetworkMode=mode)).network_mode == read


def test_a_container_on_the_hosts_network_has_no_address_of_its_own() -> None:
    assert container(document(HostConfig__NetworkMode="host")).networks == {}


def test_ports_of_other_protocols_are_left_out_and_tcp_need_not_be_said() -> None:
    found = container(document(Config__ExposedPorts={"5/sctp": {}, "82": {}}, NetworkSettings__Ports={}))
    assert found.ports == (Port(81), Port(82))  # 81 is bound by the command


def test_of_several_bindings_the_most_reachable_is_first() -> None:
    assert bindings(
        ("::1", "1"), ("127.0.0.1", "2"), ("2001:db8::1", "3"), ("10.0.0.1", "4"), ("", "6"), ("", "5")
    ) == (
        Published("", 5),
        Published("", 6),
        Published("10.0.0.1", 4),
        Published("2001:db8::1", 3),
        Published("127.0.0.1", 2),
        Published("::1", 1),
    )


def test_ipv4_comes_first_where_the_twins_have_different_ports() -> None:
    assert bindings(("::", "32768"), ("0.0.0.0", "32769")) == (Published("", 32769), Published("", 32768))


def test_halves_of_characters_become_question_marks() -> None:
    found = container(document(Config__Labels={"a": "x\ud800y"}))
    assert found.labels == {"a": "x?y"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Id": MISSING}, "Id is missing"),
        ({"Id": 5}, "Id is no text"),
        ({"Name": "/"}, "Name is missing"),
        ({"State": []}, "State is no object"),
        ({"State__Running": "yes"}, "Running is neither true nor false"),
        ({"State__ExitCode": "1"}, "ExitCode is no whole number"),
        ({"Config__Env": "A=b"}, "Config.Env is no list of texts"),
        ({"Config__Env": [5]}, "Config.Env is no list of texts"),
        ({"Config__Labels": ["a"]}, "Labels is no object"),
        ({"Config__Labels": {"a": 5}}, "a is no text"),
        ({"Config__ExposedPorts": {"x/tcp": {}}}, "port x/tcp: 'x' is no port"),
        ({"Config__ExposedPorts": {"0/tcp": {}}}, "port 0/tcp: '0' is no port"),
        ({"Config__ExposedPorts": {"\u0661/tcp": {}}}, "port \u0661/tcp: '\u0661' is no port"),
        (
            {"NetworkSettings__Ports": {"80/tcp": {"HostPort": "1"}}},
            "NetworkSettings.Ports.80/tcp is no list of bindings",
        ),
        ({"NetworkSettings__Ports": {"80/tcp": ["1"]}}, "NetworkSettings.Ports.80/tcp is no list of bindings"),
        ({"NetworkSettings__Ports": {"80/tcp": [{"HostPort": "65536"}]}}, "port 80/tcp: '65536' is no port"),
        (
            {"NetworkSettings__Ports": {"80/tcp": [{"HostIp": "edge", "HostPort": "1"}]}},
            "port 80/tcp: 'edge' is no address",
        ),
        ({"NetworkSettings__Networks": {"a": "b"}}, "a is no object"),
        (
            {"NetworkSettings__Networks": {"a": {"IPAddress": "172.17"}}},
            "NetworkSettings.Networks.a: '172.17' is no address",
        ),
    ],
)
def test_what_is_not_dockers_word_is_refused_with_its_name(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(InspectError) as refused:
        container(document(**changes))
    assert str(refused.value) == reason


def test_names_hold_no_half_characters_either() -> None:
    networks = {"net\ud800": {"NetworkID": "aa", "IPAddress": "192.0.2.1"}}
    found = container(document(Config__Labels={"tag\ud800": "a\ud800"}, NetworkSettings__Networks=networks))
    assert (found.labels, found.networks) == ({"tag?": "a?"}, {"net?": "192.0.2.1"})
    with pytest.raises(InspectError, match=r"tag\? is no text"):
        container(document(Config__Labels={"tag\ud800": 1}))
