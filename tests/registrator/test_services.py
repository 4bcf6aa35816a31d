"""What containers are registered as: a table for every key and setting, and what happens to a bad one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb.settings import RegistratorSettings
from registrator.model import Container, Health, Port, Published, Registration
from registrator.services import digest, payload, registrations, service_ids, stays

ID = "5f" * 32
SETTINGS = RegistratorSettings(host="edge-1")
HTTP = Port(80, "tcp", (Published("", 32768),))
HTTPS = Port(443, "tcp", (Published("", 32769),))
DNS = (Port(53, "tcp", (Published("", 53),)), Port(53, "udp", (Published("", 53),)))


def web(
    *ports: Port,
    labels: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    networks: Mapping[str, str] | None = None,
    **changes: Any,
) -> Container:
    """A container of image `team/web`, with port 80 published at 32768 unless other ports are given."""
    return Container(
        id=ID,
        name="web.1",
        image=changes.pop("image", "registry.example:5000/team/web:1.2"),
        ports=ports or (HTTP,),
        labels=labels or {},
        environment=environment or {},
        networks={"bridge": "172.17.0.2"} if networks is None else networks,
        **changes,
    )


def read(container: Container, **settings: Any) -> tuple[list[Registration], list[str]]:
    """The registrations, and each problem in one text."""
    found, problems = registrations(container, dataclasses.replace(SETTINGS, **settings), "node-1")
    assert {problem.kind for problem in problems} <= {"registration"}
    return found, [f"{problem.subject}: {problem.reason}" for problem in problems]


def one(container: Container, **settings: Any) -> Registration:
    """The one registration, of a container with nothing wrong."""
    found, problems = read(container, **settings)
    assert problems == []
    (registration,) = found
    return registration


def names(container: Container, **settings: Any) -> list[str]:
    found, problems = read(container, **settings)
    assert problems == []
    return [registration.name for registration in found]


def places(container: Container, **settings: Any) -> list[tuple[str, int]]:
    found, problems = read(container, **settings)
    assert problems == []
    return [(registration.address, registration.port) for registration in found]


def definition(container: Container, **settings: Any) -> Mapping[str, Any] | None:
    check = one(container, **settings).check
    return None if check is None else check.definition


def own_meta(registration: Registration) -> dict[str, str]:
    """The meta, less what the registrator itself puts there."""
    return {key: value for key, value in registration.meta.items() if not key.startswith("registrator")}


def test_a_container_without_keys() -> None:
    assert one(web()) == Registration(
        container=ID,
        id="edge-1:web.1:80",
        name="web",
        address="",
        port=32768,
        tags=(),
        meta={"registrator": "node-1"},
        check=None,
    )


def test_what_the_agent_is_sent() -> None:
    labels = {"SERVICE_TAGS": "http", "SERVICE_LB_POLICY": "least_conn", "SERVICE_CHECK_TCP": "true"}
    found = one(web(labels=labels), ip="192.0.2.1")
    assert payload(found) == {
        "ID": "edge-1:web.1:80",
        "Name": "web",
        "Address": "192.0.2.1",
        "Port": 32768,
        "Tags": ["http"],
        "Meta": {
            "registrator": "node-1",
            "registrator_check": found.meta["registrator_check"],
            "lb_policy": "least_conn",
        },
        "Check": {"TCP": "192.0.2.1:32768", "Interval": "10s"},
    }
    assert "Check" not in payload(one(web()))


def test_a_container_that_does_not_run_is_registered_as_nothing_a_paused_one_is() -> None:
    assert read(web(running=False, labels={"SERVICE_ID": "\0"})) == ([], [])
    assert one(web(paused=True)).name == "web"


# Names.


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("redis", "redis"),
        ("team/web:1.2", "web"),
        ("localhost:5000/a/b/web", "web"),
        (f"web@sha256:{ID}", "web"),
        (f"team/web:1.2@sha256:{ID}", "web"),
        (f"sha256:{ID}", "web.1"),
        ("", "web.1"),
    ],
)
def test_the_name_is_by_default_that_of_the_image_or_the_containers_if_it_has_none(image: str, name: str) -> None:
    assert names(web(image=image)) == [name]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({}, ["web-80", "web-443"]),
        ({"SERVICE_NAME": "shop"}, ["shop-80", "shop-443"]),
        ({"SERVICE_443_NAME": "secure"}, ["web-80", "secure"]),
        ({"SERVICE_NAME": "shop", "SERVICE_80_NAME": "plain"}, ["plain", "shop-443"]),
        ({"SERVICE_80_IGNORE": "yes"}, ["web-443"]),
        ({"SERVICE_IGNORE": "yes"}, []),
        ({"SERVICE_IGNORE": ""}, ["web-80", "web-443"]),
        ({"SERVICE_IGNORE": "yes", "SERVICE_443_IGNORE": ""}, ["web-443"]),
        ({"SERVICE_81_NAME": "other", "SERVICE_8_IGNORE": "x"}, ["web-80", "web-443"]),
    ],
)
def test_names_of_several_ports(labels: dict[str, str], expected: list[str]) -> None:
    assert names(web(HTTP, HTTPS, labels=labels)) == expected


def test_tcp_and_udp_of_one_port_are_two_services_of_one_name() -> None:
    found, _ = read(web(*DNS))
    assert [(r.id, r.name, r.tags) for r in found] == [
        ("edge-1:web.1:53", "web-53", ()),
        ("edge-1:web.1:53:udp", "web-53", ("udp",)),
    ]


def test_explicit_wants_a_name() -> None:
    assert names(web(), explicit=True) == []
    assert names(web(labels={"SERVICE_NAME": "shop"}), explicit=True) == ["shop"]
    assert names(web(HTTP, HTTPS, environment={"SERVICE_443_NAME": "secure"}), explicit=True) == ["secure"]


@pytest.mark.parametrize("name", ["a\nb", "\u202e", "n" * 256, "\u00e4" * 128])
def test_a_name_that_cannot_be_costs_the_name(name: str) -> None:
    found, problems = read(web(labels={"SERVICE_NAME": name, "SERVICE_TAGS": "http"}))
    assert [(r.name, r.tags) for r in found] == [("web", ("http",))]
    assert problems == ["web.1 SERVICE_NAME: is not printable text of at most 255 octets"]


# Where keys are read from.


def test_labels_come_before_the_environment_and_a_port_before_none() -> None:
    environment = {"SERVICE_NAME": "a", "SERVICE_REGION": "a", "SERVICE_80_ZONE": "a", "HOME": "/"}
    labels = {"SERVICE_NAME": "b", "SERVICE_ZONE": "b", "maintainer": "x", "service_tags": "x"}
    found = one(web(environment=environment, labels=labels))
    assert (found.name, own_meta(found)) == ("b", {"region": "a", "zone": "a"})


def test_of_keys_that_differ_in_case_the_last_by_order_counts() -> None:
    found = one(web(labels={"SERVICE_zone": "lower", "SERVICE_ZONE": "upper"}))
    assert own_meta(found) == {"zone": "lower"}


# IDs.


def test_a_service_id_may_be_given() -> None:
    assert one(web(labels={"SERVICE_ID": "shop-1"})).id == "shop-1"
    found, problems = read(web(HTTP, HTTPS, labels={"SERVICE_443_ID": "secure-1"}))
    assert ([r.id for r in found], problems) == (["edge-1:web.1:80", "secure-1"], [])


def test_one_id_for_several_ports_is_the_first_ones() -> None:
    found, problems = read(web(*DNS, labels={"SERVICE_53_ID": "dns"}))
    assert [r.id for r in found] == ["dns", "edge-1:web.1:53:udp"]
    assert problems == ["web.1 SERVICE_53_ID: 'dns' is taken by another port of this container"]


def test_all_ids_that_a_container_may_have_had_wherever_its_ports_were() -> None:
    ended = web(Port(80), Port(53, "udp"), labels={"SERVICE_80_ID": "shop"}, running=False)
    assert service_ids(ended, SETTINGS) == {"edge-1:web.1:80", "edge-1:web.1:53:udp", "shop"}


# Tags and meta.


def test_tags() -> None:
    container = web(labels={"SERVICE_TAGS": r"http, v1\,2,,http"})
    assert one(container).tags == ("http", "v1,2")
    assert one(container, tags=("edge", "http")).tags == ("http", "v1,2", "edge")
    udp = web(DNS[1], labels={"SERVICE_TAGS": "a"})
    assert one(udp, tags=("edge",)).tags == ("a", "edge", "udp")


def test_tags_have_limits() -> None:
    tags = ["x" * 1024, "x" * 1025, *(str(number) for number in range(200))]
    found, problems = read(web(labels={"SERVICE_TAGS": ",".join(tags)}))
    assert found[0].tags == ("x" * 1024, *(str(number) for number in range(127)))
    reason = "of 202 tags 128 are taken: at most 128, each of at most 1024 octets"
    assert problems == [f"web.1 SERVICE_TAGS: {reason}"]


def test_any_other_key_is_meta() -> None:
    labels = {"SERVICE_LB_POLICY": "least_conn", "SERVICE_80_LB_MAX_FAILS": "5", "SERVICE_443_LB_HOST": "x"}
    labels |= {"SERVICE_Region": "eu", "SERVICE_EMPTY": "", "SERVICE_2FA_MODE": "on", "SERVICE_": "x", "SERVICE": "x"}
    assert own_meta(one(web(labels=labels))) == {
        "lb_policy": "least_conn",
        "lb_max_fails": "5",
        "region": "eu",
        "empty": "",
        "2fa_mode": "on",
    }


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("A.B", "x", "Consul takes letters, digits, - and _ in a key of meta"),
        ("\u00c4", "x", "Consul takes letters, digits, - and _ in a key of meta"),
        ("CONSUL-X", "x", "Consul keeps keys of meta that begin with consul- to itself"),
        ("K" * 129, "x", "Consul takes a key of meta of at most 128 octets"),
        ("BIG", "x" * 513, "Consul takes a value of meta of at most 512 octets"),
        ("BIG", "\u00e4" * 257, "Consul takes a value of meta of at most 512 octets"),
        ("REGISTRATOR", "me", "the registrator itself uses this key of meta"),
        ("REGISTRATOR_CHECK", "1", "the registrator itself uses this key of meta"),
    ],
)
def test_a_pair_of_meta_that_cannot_be_costs_that_pair(key: str, value: str, reason: str) -> None:
    found, problems = read(web(HTTP, HTTPS, labels={f"SERVICE_{key}": value, "SERVICE_ZONE": "a"}))
    assert [own_meta(registration) for registration in found] == [{"zone": "a"}] * 2
    assert problems == [f"web.1 SERVICE_{key}: {reason}"]  # once, though it is of both ports


def test_meta_at_its_limits() -> None:
    assert own_meta(one(web(labels={"SERVICE_" + "k" * 128: "x" * 512}))) == {"k" * 128: "x" * 512}


def test_there_are_no_more_than_64_pairs_of_meta() -> None:
    labels = {f"SERVICE_K{number:03}": "x" for number in range(100)}
    found, problems = read(web(labels=labels))
    assert len(found[0].meta) == 64
    assert list(own_meta(found[0])) == [f"k{number:03}" for number in range(63)]
    assert problems == ["web.1 SERVICE_K063: a service has at most 64 pairs of meta: the rest is left out"]


# Addresses.

TWO_NETWORKS = {"back": "10.0.1.5", "all": "10.0.2.5"}


@pytest.mark.parametrize(
    ("container", "settings", "place"),
    [
        (web(), {}, ("", 32768)),
        (web(), {"ip": "192.0.2.1"}, ("192.0.2.1", 32768)),
        (web(Port(80, "tcp", (Published("10.0.0.1", 80),))), {}, ("10.0.0.1", 80)),
        (web(Port(80, "tcp", (Published("10.0.0.1", 80),))), {"ip": "192.0.2.1"}, ("192.0.2.1", 80)),
        (web(), {"internal": True}, ("172.17.0.2", 80)),
        (web(Port(80)), {"internal": True, "ip": "192.0.2.1"}, ("172.17.0.2", 80)),
        (web(Port(80), network_mode="host", networks={}), {}, ("", 80)),
        (web(Port(80), network_mode="host", networks={}), {"ip": "192.0.2.1"}, ("192.0.2.1", 80)),
        (web(Port(80), network_mode="host", networks={}), {"internal": True}, ("", 80)),
        (web(networks=TWO_NETWORKS, network_mode="back"), {"internal": True}, ("10.0.1.5", 80)),
        (web(networks=TWO_NETWORKS), {"internal": True}, ("10.0.2.5", 80)),
        (web(networks=TWO_NETWORKS, labels={"SERVICE_NETWORK": "back"}), {"internal": True}, ("10.0.1.5", 80)),
        (web(networks=TWO_NETWORKS, labels={"SERVICE_80_NETWORK": "back"}), {"internal": True}, ("10.0.1.5", 80)),
        (web(networks=TWO_NETWORKS, labels={"SERVICE_NETWORK": "back"}), {}, ("", 32768)),
        (web(labels={"addr": "10.9.0.1/24"}), {"address_label": "addr"}, ("10.9.0.1", 32768)),
        (web(labels={"addr": "2001:db8::1"}), {"address_label": "addr", "internal": True}, ("2001:db8::1", 80)),
        (web(labels={"addr": "10.9.0.1"}), {"address_label": "addr", "ip": "192.0.2.1"}, ("10.9.0.1", 32768)),
        (web(labels={"addr": "10.9.0.1"}), {}, ("", 32768)),
        (web(), {"address_label": "addr"}, ("", 32768)),
    ],
)
def test_where_a_service_is(container: Container, settings: dict[str, Any], place: tuple[str, int]) -> None:
    assert places(container, **settings) == [place]


def test_a_port_that_is_not_published_is_no_service() -> None:
    assert places(web(Port(80), HTTPS)) == [("", 32769)]
    assert names(web(Port(80), HTTPS)) == ["web"]  # it is the only one
    assert places(web(Port(80), HTTPS), internal=True) == [("172.17.0.2", 80), ("172.17.0.2", 443)]


@pytest.mark.parametrize("mode", ["none", "container:ab"])
def test_a_container_without_an_address_of_its_own_is_named(mode: str) -> None:
    found, problems = read(web(Port(80), networks={}, network_mode=mode), internal=True)
    assert (found, problems) == ([], [f"web.1 network: has no address of its own (network mode {mode!r})"])


def test_a_network_that_a_container_is_not_on_leaves_the_usual_one() -> None:
    found, problems = read(web(networks=TWO_NETWORKS, labels={"SERVICE_NETWORK": "front"}), internal=True)
    assert [r.address for r in found] == ["10.0.2.5"]
    assert problems == ["web.1 SERVICE_NETWORK: it has no address on 'front'; on all, back"]


def test_a_label_that_holds_no_address_leaves_the_usual_one() -> None:
    found, problems = read(web(labels={"addr": "edge"}), address_label="addr")
    assert ([r.address for r in found], problems) == ([""], ["web.1 addr: 'edge' is no IP address"])


# Checks.


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, None),
        ({"INTERVAL": "5s"}, None),
        ({"HTTP": "/health"}, {"HTTP": "http://192.0.2.1:32768/health", "Interval": "10s"}),
        (
            {"HTTP": "/", "HTTP_METHOD": "head", "METHOD": "PUT", "TIMEOUT": "1s", "INTERVAL": "1m30s"},
            {"HTTP": "http://192.0.2.1:32768/", "Method": "HEAD", "Interval": "1m30s", "Timeout": "1s"},
        ),
        ({"HTTP": "/", "METHOD": "PUT"}, {"HTTP": "http://192.0.2.1:32768/", "Method": "PUT", "Interval": "10s"}),
        ({"HTTP": "/", "HTTPS_METHOD": "PUT"}, {"HTTP": "http://192.0.2.1:32768/", "Interval": "10s"}),
        (
            {"HTTPS": "/h?a=b", "TLS_SKIP_VERIFY": "true"},
            {"HTTP": "https://192.0.2.1:32768/h?a=b", "Interval": "10s", "TLSSkipVerify": True},
        ),
        ({"HTTPS": "/", "TLS_SKIP_VERIFY": "false"}, {"HTTP": "https://192.0.2.1:32768/", "Interval": "10s"}),
        (
            {"CMD": "curl localhost | grep ok"},
            {
                "DockerContainerID": ID,
                "Shell": "/bin/sh",
                "Args": ["/bin/sh", "-c", "curl localhost | grep ok"],
                "Interval": "10s",
            },
        ),
        (
            {"SCRIPT": "nc $SERVICE_IP $SERVICE_PORT"},
            {"Args": ["/bin/sh", "-c", "nc 192.0.2.1 32768"], "Interval": "10s"},
        ),
        ({"TTL": "30s", "INTERVAL": "5s"}, {"TTL": "30s"}),
        ({"TCP": "true"}, {"TCP": "192.0.2.1:32768", "Interval": "10s"}),
        (
            {"GRPC": "true", "GRPC_USE_TLS": "true", "TLS_SKIP_VERIFY": "1"},
            {"GRPC": "192.0.2.1:32768", "GRPCUseTLS": True, "TLSSkipVerify": True, "Interval": "10s"},
        ),
        (
            {"TCP": "true", "INITIAL_STATUS": "passing", "DEREGISTER_AFTER": "10m"},
            {
                "TCP": "192.0.2.1:32768",
                "Interval": "10s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": "10m",
            },
        ),
        ({"TTL": "30s", "INITIAL_STATUS": "warning"}, {"TTL": "30s", "Status": "warning"}),
        ({"HTTP": "", "TCP": "true"}, {"TCP": "192.0.2.1:32768", "Interval": "10s"}),
    ],
)
def test_checks(keys: dict[str, str], expected: dict[str, Any] | None) -> None:
    labels = {f"SERVICE_CHECK_{key}": value for key, value in keys.items()}
    found = one(web(labels=labels), ip="192.0.2.1")
    assert (found.check.definition if found.check else None) == expected
    assert own_meta(found) == {}


def test_the_first_kind_of_check_in_the_originals_order_counts() -> None:
    kinds = ["HTTP", "HTTPS", "CMD", "SCRIPT", "TTL", "TCP", "GRPC"]
    values = {"HTTP": "/a", "HTTPS": "/b", "CMD": "c", "SCRIPT": "d", "TTL": "1s", "TCP": "1", "GRPC": "1"}
    seen = []
    while kinds:
        found = definition(web(labels={f"SERVICE_CHECK_{kind}": values[kind] for kind in kinds}))
        assert found is not None
        seen.append(str(next(iter(found.items()))))
        kinds.pop(0)
    assert [text.split("'")[1] for text in seen] == ["HTTP", "HTTP", "DockerContainerID", "Args", "TTL", "TCP", "GRPC"]
    assert ["https://" in text for text in seen[:2]] == [False, True]


def test_an_agent_looks_on_its_own_host_where_no_address_is_registered() -> None:
    found = definition(web(labels={"SERVICE_CHECK_HTTP": "/"}))
    assert found == {"HTTP": "http://127.0.0.1:32768/", "Interval": "10s"}


def test_an_ipv6_address_stands_in_brackets() -> None:
    container = web(labels={"SERVICE_CHECK_HTTP": "/"}, networks={"bridge": "2001:db8::5"})
    assert definition(container, internal=True) == {"HTTP": "http://[2001:db8::5]:80/", "Interval": "10s"}


def test_a_port_may_have_a_check_of_its_own() -> None:
    found, _ = read(web(HTTP, HTTPS, labels={"SERVICE_80_CHECK_HTTP": "/", "SERVICE_CHECK_TCP": "1"}), ip="192.0.2.1")
    assert [r.check.definition.get("HTTP") if r.check else None for r in found] == ["http://192.0.2.1:32768/", None]
    assert [r.check.definition.get("TCP") if r.check else None for r in found] == [None, "192.0.2.1:32769"]


def test_a_udp_port_is_not_checked_by_tcp() -> None:
    found, problems = read(web(*DNS, labels={"SERVICE_CHECK_TCP": "1", "SERVICE_CHECK_HTTP": "/"}))
    assert [r.check is not None for r in found] == [True, False]
    assert problems == []
    assert definition(web(DNS[1], labels={"SERVICE_CHECK_SCRIPT": "dig"})) is not None


@pytest.mark.parametrize(
    ("key", "value", "reason", "expected"),
    [
        ("HTTP", "health", "'health' is not a path: it does not begin with /", None),
        ("HTTP", "/" + "x" * 4096, "has more than 4096 octets", None),
        ("HTTP", "/a b", "a path has no spaces and no control characters", None),
        ("HTTPS", "https://x/", "'https://x/' is not a path: it does not begin with /", None),
        ("TTL", "30", "'30' is not a duration, such as 10s or 1m30s", None),
        (
            "INTERVAL",
            "10",
            "'10' is not a duration, such as 10s or 1m30s",
            {"TCP": "127.0.0.1:32768", "Interval": "10s"},
        ),
        (
            "INTERVAL",
            "0s",
            "'0s' is not a duration, such as 10s or 1m30s",
            {"TCP": "127.0.0.1:32768", "Interval": "10s"},
        ),
        (
            "TIMEOUT",
            "-1s",
            "'-1s' is not a duration, such as 10s or 1m30s",
            {"TCP": "127.0.0.1:32768", "Interval": "10s"},
        ),
        (
            "INITIAL_STATUS",
            "good",
            "'good' is not one of passing, warning, critical",
            {"TCP": "127.0.0.1:32768", "Interval": "10s"},
        ),
        (
            "DEREGISTER_AFTER",
            "soon",
            "'soon' is not a duration, such as 10s or 1m30s",
            {"TCP": "127.0.0.1:32768", "Interval": "10s"},
        ),
    ],
)
def test_a_bad_word_about_a_check_costs_that_word(
    key: str, value: str, reason: str, expected: dict[str, str] | None
) -> None:
    labels = {f"SERVICE_CHECK_{key}": value, "SERVICE_TAGS": "http"} | ({"SERVICE_CHECK_TCP": "1"} if expected else {})
    found, problems = read(web(labels=labels))
    assert [(r.tags, r.check.definition if r.check else None) for r in found] == [(("http",), expected)]
    assert problems == [f"web.1 SERVICE_CHECK_{key}: {reason}"]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"HTTP": "/", "METHOD": "A B"}, "'A B' is no method of HTTP"),
        ({"HTTPS": "/", "TLS_SKIP_VERIFY": "perhaps"}, "'perhaps' is neither on nor off"),
    ],
)
def test_a_bad_option_of_a_check_costs_that_option(keys: dict[str, str], reason: str) -> None:
    found, problems = read(web(labels={f"SERVICE_CHECK_{key}": value for key, value in keys.items()}))
    assert [set(r.check.definition) if r.check else None for r in found] == [{"HTTP", "Interval"}]
    assert problems == [f"web.1 SERVICE_CHECK_{list(keys)[-1]}: {reason}"]


def test_a_key_that_checks_do_not_have_is_meta_and_named() -> None:
    found, problems = read(web(labels={"SERVICE_CHECK_INTERVALL": "5s"}))
    assert own_meta(found[0]) == {"check_intervall": "5s"}
    assert problems == ["web.1 SERVICE_CHECK_INTERVALL: there is no such key for a check: it is taken for meta"]


@pytest.mark.parametrize("text", ["10s", "1m30s", "500ms", "1.5h", ".5s", "5000us", "5000\u00b5s", "1h0m0s", "8760h"])
def test_durations_that_go_reads(text: str) -> None:
    found = definition(web(labels={"SERVICE_CHECK_TTL": text}))
    assert found == {"TTL": text}


@pytest.mark.parametrize(
    "text", ["10", "s", "1 s", "1d", "0m0s", ".s", "1e3s", "\u0661s", "1s" * 40, "1us", "9999999h"]
)
def test_durations_that_it_does_not_read(text: str) -> None:
    found, problems = read(web(labels={"SERVICE_CHECK_TTL": text}))
    assert ([r.check for r in found], len(problems)) == ([None], 1)


# Checks that we feed.


@pytest.mark.parametrize(
    ("health", "paused", "labels", "word"),
    [
        ("healthy", False, {}, ("passing", "healthy")),
        ("unhealthy", False, {}, ("critical", "unhealthy")),
        ("starting", False, {}, ("critical", "starting")),
        ("starting", False, {"SERVICE_CHECK_INITIAL_STATUS": "passing"}, ("passing", "starting")),
        ("unhealthy", False, {"SERVICE_CHECK_INITIAL_STATUS": "passing"}, ("critical", "unhealthy")),
        ("healthy", True, {}, ("critical", "paused")),
    ],
)
def test_dockers_health_is_told(health: Health, paused: bool, labels: dict[str, str], word: tuple[str, str]) -> None:
    check = one(web(health=health, paused=paused, labels=labels)).check
    assert check is not None
    assert check.word is not None
    assert (check.word.status, check.word.output) == word
    assert check.definition == {"TTL": "300000ms", "Status": word[0]}
    assert (check.is_ttl, check.word.every) == (True, 100)


def test_a_key_for_a_check_comes_before_dockers_health() -> None:
    check = one(web(health="healthy", labels={"SERVICE_CHECK_TTL": "30s"})).check
    assert check is not None
    assert (check.definition, check.is_ttl) == ({"TTL": "30s"}, False)


def test_a_bad_key_for_a_check_leaves_dockers_health() -> None:
    found, problems = read(web(health="healthy", labels={"SERVICE_CHECK_HTTP": "x"}))
    assert [r.check.is_ttl if r.check else None for r in found] == [True]
    assert len(problems) == 1


def test_with_a_ttl_what_has_no_check_gets_one() -> None:
    settings = {"ttl": 30.0, "ttl_refresh": 10.0}
    check = one(web(labels={"SERVICE_CHECK_DEREGISTER_AFTER": "1h"}), **settings).check
    assert check is not None
    assert check.definition == {"TTL": "30000ms", "Status": "passing", "DeregisterCriticalServiceAfter": "1h"}
    assert check.word is not None
    assert (check.word.status, check.word.output, check.word.every) == ("passing", "running", 10)
    assert definition(web(labels={"SERVICE_CHECK_TCP": "1"}), **settings) == {
        "TCP": "127.0.0.1:32768",
        "Interval": "10s",
    }
    assert definition(web(health="unhealthy"), **settings) == {"TTL": "30000ms", "Status": "critical"}
    assert definition(web(paused=True), **settings) == {"TTL": "30000ms", "Status": "critical"}


def test_a_digest_tells_checks_apart_but_not_by_the_status_they_begin_with() -> None:
    def found(labels: dict[str, str], health: Health = "") -> str:
        registration = one(web(labels=labels, health=health))
        assert registration.check is not None
        assert registration.meta["registrator_check"] == digest(registration.check)
        return registration.meta["registrator_check"]

    assert found({}, "healthy") == found({}, "unhealthy")
    tcp = {"SERVICE_CHECK_TCP": "1"}
    assert found(tcp) == found({**tcp, "SERVICE_CHECK_INITIAL_STATUS": "passing"})
    assert len({found(tcp), found({**tcp, "SERVICE_CHECK_INTERVAL": "1s"}), found({"SERVICE_CHECK_HTTP": "/"})}) == 3


# Ends.


@pytest.mark.parametrize(
    ("exit_code", "expected"), [(0, False), (1, True), (127, True), (137, False), (143, False), (255, False)]
)
def test_with_on_success_what_failed_stays_and_a_signal_is_no_failure(exit_code: int, expected: bool) -> None:
    assert stays(exit_code, dataclasses.replace(SETTINGS, deregister="on-success")) is expected
    assert stays(exit_code, SETTINGS) is False


# Whatever a container says, the rest of it is registered.

KEYS = ["NAME", "ID", "TAGS", "IGNORE", "NETWORK", "ZONE", "A.B", "CHECK_HTTP", "CHECK_TTL", "CHECK_INTERVAL"]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(["", "80_", "443_", "9_"]), st.sampled_from(KEYS)), st.text(), max_size=8
    ),
    st.sampled_from(["", "starting", "healthy"]),
    st.booleans(),
)
def test_any_words_give_registrations_that_consul_takes(
    said: dict[tuple[str, str], str], health: Health, internal: bool
) -> None:
    labels = {f"SERVICE_{port}{key}": value for (port, key), value in said.items()}
    found, _ = read(web(HTTP, HTTPS, labels=labels, health=health), internal=internal)
    ignored = [port for port in ("80", "443") if said.get((f"{port}_", "IGNORE"), said.get(("", "IGNORE"), ""))]
    assert len(found) == 2 - len(ignored)
    assert len({registration.id for registration in found}) == len(found)
    for registration in found:
        assert registration.name.strip()
        assert registration.id.strip()
        assert all(tag.strip() == tag != "" for tag in registration.tags)
        assert len(registration.meta) <= 64
        assert "a.b" not in registration.meta
