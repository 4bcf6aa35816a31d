from __future__ import annotations

import pytest

from dnsserver.names import (
    AddrName,
    ForeignName,
    MeshName,
    Name,
    NodeName,
    PointerName,
    QueryName,
    ServiceName,
    UnknownName,
    parse_name,
)
from dnsserver.wire import TYPE_A, TYPE_SRV

DOMAIN = (b"consul",)


def parse(text: str, qtype: int = TYPE_A, domain: tuple[bytes, ...] = DOMAIN) -> Name:
    return parse_name(tuple(text.encode().split(b".")) if text else (), qtype, domain)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("web.service.consul", ServiceName(b"web", b"", b"")),
        ("web.service.dc2.consul", ServiceName(b"web", b"", b"dc2")),
        ("v1.web.service.consul", ServiceName(b"web", b"v1", b"")),
        ("v1.2.web.service.dc2.consul", ServiceName(b"web", b"v1.2", b"dc2")),
        ("_web._tcp.service.consul", ServiceName(b"web", b"", b"")),
        ("_web._.service.consul", ServiceName(b"web", b"", b"")),
        ("_web._udp.service.consul", ServiceName(b"web", b"udp", b"")),
        ("_web._blue.service.dc2.consul", ServiceName(b"web", b"blue", b"dc2")),
        ("x._web._tcp.service.consul", ServiceName(b"_tcp", b"x._web", b"")),
        ("node.service.consul", ServiceName(b"node", b"", b"")),
        ("n1.node.consul", NodeName(b"n1", b"")),
        ("n1.example.node.dc2.consul", NodeName(b"n1.example", b"dc2")),
        ("0a000001.addr.consul", AddrName(b"0a000001")),
        ("0a000001.addr.dc2.x.consul", AddrName(b"0a000001")),
        ("x.0a000001.addr.consul", UnknownName()),
        ("web.service.dc2.x.consul", UnknownName()),
        ("service.consul", UnknownName()),
        ("node.consul", UnknownName()),
        ("web.consul", UnknownName()),
        ("_web._tcp.consul", UnknownName()),
        ("web.connect.consul", MeshName("connect", b"web", b"")),
        ("v1.web.connect.dc2.consul", MeshName("connect", b"web", b"dc2")),
        ("api.ingress.consul", MeshName("ingress", b"api", b"")),
        ("connect.consul", UnknownName()),
        ("web.virtual.consul", UnknownName()),
        ("geo.query.consul", QueryName(b"geo", b"")),
        ("geo.web.query.dc2.consul", QueryName(b"geo.web", b"dc2")),
        ("geo.query.dc2.x.consul", UnknownName()),
        ("consul", UnknownName()),
        ("consul.example", ForeignName()),
        ("notconsul", ForeignName()),
        ("", ForeignName()),
        ("1.2.0.10.in-addr.arpa", PointerName("10.0.2.1")),
        ("0.10.in-addr.arpa", PointerName("")),
        ("256.2.0.10.in-addr.arpa", PointerName("")),
        ("x.2.0.10.in-addr.arpa", PointerName("")),
        ("1." + "0." * 27 + "0.0.d.f.ip6.arpa", PointerName("fd00::1")),
        ("g." + "0." * 27 + "0.0.d.f.ip6.arpa", PointerName("")),
        ("arpa", PointerName("")),
    ],
)
def test_forms(text: str, name: Name) -> None:
    assert parse(text) == name


def test_service_label_may_be_left_out_of_rfc_2782_names_for_srv() -> None:
    assert parse("_web._tcp.consul", TYPE_SRV) == ServiceName(b"web", b"", b"")
    assert parse("_web._blue.dc2.consul", TYPE_SRV) == ServiceName(b"web", b"blue", b"dc2")


def test_domain_of_several_labels() -> None:
    domain = (b"corp", b"example")
    assert parse("web.service.corp.example", domain=domain) == ServiceName(b"web", b"", b"")
    assert parse("web.service.example", domain=domain) == ForeignName()
