"""The configurations of origin and peers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.macro import configs, dnsconfigs
from benchmarks.macro.site import DNS_NAMES, dns_addresses
from tests.benchmarks.examples import WORK


def test_the_templates_nginx_has_neither_http_11_nor_keep_alive_to_instances() -> None:
    text = configs.nginx_templates(WORK, 8000, (1, 2, 3))
    assert text.count("max_fails=3 fail_timeout=60 weight=1;") == 3
    assert "location / { proxy_pass http://httpfront; }" in text
    assert "server_name httpfront.tonybai.com;" in text
    assert "proxy_http_version" not in text
    assert "keepalive" not in text


def test_the_tuned_nginx_keeps_connections_to_instances() -> None:
    text = configs.nginx_tuned(WORK, 8000, (1, 2, 3))
    assert "proxy_http_version 1.1;" in text
    assert 'proxy_set_header Connection "";' in text
    assert "keepalive 64;" in text


def test_the_log_of_nginx_is_off_but_for_the_peer_that_has_one() -> None:
    plain = configs.nginx_tuned(WORK, 8000, (1, 2, 3))
    logging = configs.nginx_tuned(WORK, 8000, (1, 2, 3), name="nginx-tuned-log", access_log=WORK / "log")
    assert plain.count("access_log") == 1
    assert "access_log /nowhere/log combined buffer=64k" in logging
    assert "pid /nowhere/nginx-tuned-log.pid;" in logging


@pytest.mark.parametrize("module", [None, Path("/modules/stream.so")])
def test_the_stream_module_is_loaded_first_when_it_is_a_file(module: Path | None) -> None:
    text = configs.nginx_stream(WORK, 9000, (1, 2, 3), module)
    assert text.startswith("load_module /modules/stream.so;\n") == (module is not None)
    assert text.count("max_fails=3 fail_timeout=30s weight=5;") == 3


def test_dns_peers_know_every_name_with_distinct_addresses() -> None:
    lines = dnsconfigs.hosts_file().splitlines()
    assert len(lines) == 3 * DNS_NAMES
    assert len({line.split()[0] for line in lines}) == 3 * DNS_NAMES
    text = dnsconfigs.unbound(5300, WORK)
    last = DNS_NAMES - 1
    for address in dns_addresses(last):
        assert f'local-data: "svc{last}.service.consul. 0 IN A {address}"' in text


def test_unbound_knows_the_places_of_instances_and_where_they_lead() -> None:
    text = dnsconfigs.unbound(5300, WORK)
    assert 'local-data: "svc0.service.consul. 0 IN SRV 1 1 8080 0a010001.addr.dc1.consul."' in text
    assert 'local-data: "0a010001.addr.dc1.consul. 0 IN A 10.1.0.1"' in text
    assert text.count(" SRV ") == 3 * DNS_NAMES


def test_foreign_names_are_known_to_the_recursor_alone_and_asked_of_it() -> None:
    assert dnsconfigs.recursor(5301, WORK).count(" 86400 IN A ") == DNS_NAMES
    unbound = dnsconfigs.unbound(5300, WORK, recursor_port=5301)
    dnsmasq = dnsconfigs.dnsmasq(5300, WORK / "hosts", recursor_port=5301)
    assert "bench.example" not in unbound + dnsmasq + dnsconfigs.hosts_file()
    assert unbound.endswith('forward-zone:\n    name: "."\n    forward-addr: 127.0.0.1@5301\n')
    assert "server=127.0.0.1#5301\n" in dnsmasq


def test_no_recursor_is_asked_where_there_is_none() -> None:
    assert "forward-zone" not in dnsconfigs.unbound(5300, WORK)
    assert "server=" not in dnsconfigs.dnsmasq(5300, WORK / "hosts")
