"""From argv and environment to settings: who wins, what is refused, and what help tells."""

from __future__ import annotations

import argparse
import dataclasses
import os
from ipaddress import ip_network
from pathlib import Path

import pytest

from lb.errors import SettingsError
from lb.flags import FLAGS, add_flags
from lb.reading import read_admin, read_settings
from lb.settings import Address, RegistrationSettings, RegistratorSettings, Settings

RECURSOR = ("--recursor", "off")  # so that no test depends on this machine's resolv.conf


def settings(*argv: str, **environ: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    given = (*RECURSOR, *argv) if "--recursor" not in argv and "CONSUL_EDGE_RECURSOR" not in environ else argv
    return read_settings(parser.parse_args(given), environ)


def refusal(*argv: str, **environ: str) -> str:
    with pytest.raises(SettingsError) as refused:
        settings(*argv, **environ)
    return str(refused.value)


def test_without_flags_all_is_as_the_defaults_say() -> None:
    found = settings()
    default = Settings()
    consul = dataclasses.replace(found.consul, state_dir=None)  # depends on the machine, as the next does
    assert dataclasses.replace(found, consul=consul, workers=1) == default
    assert found.workers == len(os.sched_getaffinity(0))


def test_a_flag_beats_its_variable_which_beats_consuls_own() -> None:
    environ = {"CONSUL_EDGE_CONSUL": "http://edge:1", "CONSUL_HTTP_ADDR": "own:2"}
    assert settings("--consul", "http://flag:3", **environ).consul.agents == ("http://flag:3",)
    assert settings(**environ).consul.agents == ("http://edge:1",)
    assert settings(CONSUL_HTTP_ADDR="own:2").consul.agents == ("http://own:2",)


def test_an_empty_variable_is_none() -> None:
    assert settings(CONSUL_EDGE_HTTP=" ", CONSUL_HTTP_TOKEN="", CONSUL_CACERT="").http == Settings().http


def test_flags_that_repeat_keep_their_order_and_lose_repeats() -> None:
    assert settings("--domain", "b.c", "--domain", "A.", "--domain", "b.c").routing.domains == ("b.c", "a")
    found = settings(CONSUL_EDGE_HTTP=":80, [::1]:81,,").http
    assert found is not None
    assert found.listen == (Address("0.0.0.0", 80), Address("::1", 81))


def test_clients_of_more_networks_may_be_allowed() -> None:
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    for found in (
        settings("--dns-allow", "192.0.2.0/24", "--dns-allow", "2001:db8::/32").dns,
        settings(CONSUL_EDGE_DNS_ALLOW="192.0.2.0/24, 2001:db8::/32").dns,
    ):
        assert found is not None
        assert found.allow == networks
    assert refusal("--dns-allow", "192.0.2.0/33").startswith("--dns-allow: '192.0.2.0/33' is not a network")


def test_the_rate_of_dns_clients_is_a_whole_number() -> None:
    found = settings("--dns-rate", "200").dns
    assert found is not None
    assert found.rate == 200
    assert refusal("--dns-rate", "often").startswith("--dns-rate: 'often' is not a whole number")


@pytest.mark.parametrize("plane", ["http", "tcp", "tls", "dns"])
def test_off_leaves_a_plane_out(plane: str) -> None:
    assert getattr(settings(f"--{plane}", "off"), plane) is None
    assert getattr(settings(**{f"CONSUL_EDGE_{plane.upper()}": "off"}), plane) is None


def test_tls_listens_where_it_is_told_and_nowhere_else() -> None:
    assert settings().tls is None
    found = settings("--tls", "127.0.0.1:443", "--tls", "[::1]:443", "--client-header-timeout", "4s").tls
    assert found is not None
    assert found.listen == (Address("127.0.0.1", 443), Address("::1", 443))
    assert (found.hello_timeout, found.max_hello, found.idle_timeout) == (4, 16384, 600)


def test_networks_of_the_proxy_protocol() -> None:
    assert settings().proxy_protocol.networks == ()
    found = settings(CONSUL_EDGE_PROXY_PROTOCOL_FROM="192.0.2.0/24, 2001:db8::/32").proxy_protocol
    assert found.networks == (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
    assert found.timeout == 60
    assert refusal("--proxy-protocol-from", "anywhere").startswith("--proxy-protocol-from: 'anywhere' is not")


def test_off_leaves_admin_and_state_out() -> None:
    found = settings("--admin", "off", "--state-dir", "off")
    assert found.admin.listen is None
    assert found.consul.state_dir is None


def test_off_does_not_go_with_others() -> None:
    assert refusal("--http", "off", "--http", ":80") == "--http: off stands alone"
    assert refusal(CONSUL_EDGE_DNS="off,:53") == "CONSUL_EDGE_DNS: off stands alone"


def test_every_setting_of_the_contract_arrives() -> None:
    found = settings(
        *("--token", "t", "--dc", "DC1", "--domain", "d", "--tcp", "127.0.0.1", "--dns-domain", "Edge."),
        *("--upstream-connect-timeout", "1s", "--upstream-read-timeout", "2s", "--upstream-send-timeout", "3s"),
        *("--client-header-timeout", "4s", "--client-body-timeout", "5s", "--keepalive-timeout", "6s"),
        *("--keepalive-requests", "11", "--upstream-keepalive-requests", "12"),
        *("--max-body", "0", "--max-header", "16k", "--max-header-line", "4k", "--tcp-idle-timeout", "7s"),
        *("--request-id", "X-Request-ID"),
        *("--drain-delay", "8s", "--drain-timeout", "9s", "--access-log", "-", "--access-log-format", "json"),
        *("--dns-ttl", "10s", "--dns-ttl", "Web=1m", "--dns-ttl", "w*=2m", "--dns-node-ttl", "3"),
        *("--dns-max-stale", "1h", "--dns-only-passing", "on", "--dns-tc", "off", "--recursor", "192.0.2.1"),
        *("--log-level", "debug", "--log-format", "json", "--empty-guard", "0", "--workers", "1"),
    )
    consul, upstream, http, tcp, dns = found.consul, found.upstream, found.http, found.tcp, found.dns
    assert http is not None
    assert tcp is not None
    assert dns is not None
    assert (consul.token, consul.datacenter, consul.empty_guard, found.routing.domains) == ("t", "dc1", 0, ("d",))
    assert (upstream.connect_timeout, upstream.read_timeout, upstream.send_timeout) == (1, 2, 3)
    assert (http.header_timeout, http.body_timeout, http.keepalive_timeout) == (4, 5, 6)
    assert (http.keepalive_requests, upstream.keepalive_requests) == (11, 12)
    assert (http.max_body, http.max_header, http.max_header_line) == (0, 16384, 4096)
    assert http.request_id == "X-Request-ID"
    assert (tcp.host, tcp.idle_timeout) == ("127.0.0.1", 7)
    assert (found.drain.delay, found.drain.timeout) == (8, 9)
    assert (found.access_log.path, found.access_log.format) == ("-", "json")
    assert (dns.domain, dns.datacenter, dns.only_passing, dns.truncate) == ("edge", "dc1", True, False)
    assert (dns.ttl, type(dns.ttl), dns.recursors) == (10, int, (Address("192.0.2.1", 53),))
    assert (dns.service_ttls, dns.node_ttl) == ((("web", 60), ("w*", 120)), 3)
    assert dns.max_stale == 3600
    assert (found.log.level, found.log.format) == ("debug", "json")


def test_consuls_own_variables_are_read(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("CONSUL_CACERT", "CONSUL_CLIENT_CERT", "CONSUL_CLIENT_KEY")}
    token_file = tmp_path / "token"
    for file in (*files.values(), token_file):
        file.touch()
    consul = settings(
        CONSUL_HTTP_TOKEN="secret",
        CONSUL_HTTP_TOKEN_FILE=str(token_file),
        CONSUL_HTTP_SSL_VERIFY="false",
        **{name: str(file) for name, file in files.items()},
    ).consul
    assert (consul.token, consul.token_file, consul.verify) == ("secret", token_file, False)
    assert (consul.ca_cert, consul.client_cert, consul.client_key) == tuple(files.values())
    assert "secret" not in repr(consul)


def test_a_refusal_names_what_the_user_wrote(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert refusal("--http", "80") == "--http: '80' is not ADDR:PORT"
    assert refusal(CONSUL_EDGE_MAX_BODY="1x").startswith("CONSUL_EDGE_MAX_BODY: '1x' is not a size")
    assert refusal(CONSUL_HTTP_ADDR="ftp://a").startswith("CONSUL_HTTP_ADDR: ")
    assert refusal(CONSUL_HTTP_SSL_VERIFY="maybe") == "CONSUL_HTTP_SSL_VERIFY: 'maybe' is neither on nor off"
    assert refusal(CONSUL_CACERT=nowhere) == f"CONSUL_CACERT: {nowhere} is not a file"
    assert refusal("--token-file", nowhere) == f"--token-file: {nowhere} is not a file"
    assert refusal(CONSUL_EDGE_TOKEN_FILE=nowhere) == f"CONSUL_EDGE_TOKEN_FILE: {nowhere} is not a file"
    assert refusal("--access-log-format", "xml") == "--access-log-format: 'xml' is not one of combined, json"
    assert refusal("--upstream-read-timeout", "0") == "--upstream-read-timeout: must be more than 0"
    assert refusal("--workers", "0").startswith("--workers: ")
    assert refusal("--workers", "129") == "--workers: 129 are more than 128"


def test_a_line_cannot_be_longer_than_its_header() -> None:
    expected = "--max-header-line: 8192 octets in a line are more than --max-header allows (4096)"
    assert refusal("--max-header", "4k") == expected


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is not the name of a header field"),
        ("X Request", "is not the name of a header field"),
        ("X-Request-ID:", "is not the name of a header field"),
        ("X-Request-ID: 1", "is not the name of a header field"),
        ("X-Request-ID\r\nX-Other", "is not the name of a header field"),
        ("Anfrage-Nümmer", "is not the name of a header field"),
        ("x_request_id", "has a _ in it: such fields are not passed on"),
        *((name, "has a meaning of its own") for name in ("Host", "connection", "Content-Length", "TE", "Upgrade")),
        *((name, "has a meaning of its own") for name in ("X-Forwarded-For", "Referer", "Authorization", "Date")),
    ],
)
def test_the_id_of_a_request_goes_in_a_field_of_its_own(name: str, reason: str) -> None:
    if name:
        assert refusal(CONSUL_EDGE_REQUEST_ID=name) == f"CONSUL_EDGE_REQUEST_ID: {name!r} {reason}"
    assert refusal("--request-id", name) == f"--request-id: {name!r} {reason}"


@pytest.mark.parametrize("listen", ["127.0.0.1:53", "0.0.0.0:53"])
def test_a_recursor_that_is_this_server_is_refused(listen: str) -> None:
    assert refusal("--dns", listen, "--recursor", "127.0.0.1") == "--recursor: 127.0.0.1:53 is this server itself"


def test_rules_for_suffixes_and_a_hosts_file(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.touch()
    rules = ("--forward", "Corp.example.=10.0.0.1", "--forward", "10.in-addr.arpa=[2001:db8::1]:5353")
    cache = ("--dns-cache", "1m", "--dns-recursor-strategy", "random", "--dns-recursor-timeout", "500ms")
    dns = settings(*rules, "--hosts", str(hosts), *cache).dns
    assert dns is not None
    assert list(map(str, dns.forward)) == ["corp.example=10.0.0.1:53", "10.in-addr.arpa=[2001:db8::1]:5353"]
    assert (dns.hosts, dns.cache_size, dns.recursor_strategy, dns.recursor_timeout) == (hosts, 1 << 20, "random", 0.5)
    twin = settings(CONSUL_EDGE_FORWARD="a.example=10.0.0.1,a.example=10.0.0.2:54").dns
    assert twin is not None
    assert list(map(str, twin.forward)) == ["a.example=10.0.0.1:53", "a.example=10.0.0.2:54"]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("corp.example", "'corp.example' is not SUFFIX=ADDR[:PORT]"),
        ("=10.0.0.1", "'' is not a domain name"),
        ("corp..example=10.0.0.1", "'corp..example' is not a domain name"),
        ("corp.example=ns.corp.example", "'ns.corp.example' is not an IP address"),
        ("corp.example=10.0.0.1:x", "'x' is not a port"),
        ("corp.example=127.0.0.1", "corp.example=127.0.0.1:53: this is the server itself"),
        ("dc2.consul=10.0.0.1", "dc2.consul=10.0.0.1:53: names under consul are answered from the catalog"),
        ("consul=10.0.0.1", "consul=10.0.0.1:53: names under consul are answered from the catalog"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule: str, reason: str) -> None:
    assert refusal("--forward", rule) == f"--forward: {reason}"


def test_a_hosts_file_that_is_none_is_refused(tmp_path: Path) -> None:
    assert refusal("--hosts", str(tmp_path)) == f"--hosts: {tmp_path} is not a file"


def test_the_state_directory_is_made(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    assert settings("--state-dir", str(directory)).consul.state_dir == directory
    assert directory.is_dir()


def test_a_state_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert refusal("--state-dir", str(file / "x")) == f"--state-dir: {file / 'x'}: Not a directory"
    assert refusal(CONSUL_EDGE_STATE_DIR=str(file)) == f"CONSUL_EDGE_STATE_DIR: {file}: File exists"


def test_help_tells_every_flag() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    text = parser.format_help()
    for flag in FLAGS:
        assert f"--{flag.name} {f'[{flag.metavar}]' if flag.bare else flag.metavar}" in text


def test_help_tells_the_defaults_that_hold() -> None:
    told = {flag.name: flag.help.rpartition("(")[2].partition(")")[0] for flag in FLAGS}
    unset = {"token", "token-file", "domain", "recursor", "dc", "dns-allow", "proxy-protocol-from", "state-dir"}
    unset |= {"workers", "forward", "hosts", "dns-node-ttl", "dns-max-stale"}
    unset |= {"docker", "ip", "host-name", "use-ip-from-label", "tags"}
    given = [part for name, text in told.items() if name not in unset for part in (f"--{name}", text)]
    assert dataclasses.replace(settings(*given), consul=settings().consul) == settings()
    assert settings("--docker", *given).registrator == settings("--docker").registrator
    assert settings(*given).consul.agents == settings().consul.agents
    assert settings(*given).consul.empty_guard == settings().consul.empty_guard


def test_the_admin_address_is_read_without_other_settings(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    environ = {"CONSUL_EDGE_STATE_DIR": str(directory), "CONSUL_EDGE_WORKERS": "many"}
    assert read_admin(argparse.Namespace(), environ) == Address("127.0.0.1", 9900)
    assert not directory.exists()
    assert read_admin(argparse.Namespace(), {"CONSUL_EDGE_ADMIN": "127.0.0.1:1"}) == Address("127.0.0.1", 1)
    assert read_admin(argparse.Namespace(admin="off"), {"CONSUL_EDGE_ADMIN": "127.0.0.1:1"}) is None


def test_of_token_and_token_file_the_one_nearer_to_the_command_line_wins(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch()
    for argv, environ, token, token_file in (
        (("--token-file", str(file)), {"CONSUL_HTTP_TOKEN": "t"}, "", file),
        (("--token", "t"), {"CONSUL_EDGE_TOKEN_FILE": str(file)}, "t", None),
        ((), {"CONSUL_EDGE_TOKEN": "t", "CONSUL_HTTP_TOKEN_FILE": str(file)}, "t", None),
        (("--token", "t", "--token-file", str(file)), {}, "t", file),  # as Consul: the file comes first then
    ):
        consul = settings(*argv, **environ).consul
        assert (consul.token, consul.token_file) == (token, token_file)


def test_a_token_of_several_lines_is_refused_without_being_repeated() -> None:
    reason = refusal(CONSUL_HTTP_TOKEN="secret\nother")
    assert reason.startswith("CONSUL_HTTP_TOKEN: an ACL token is one line")
    assert "secret" not in reason


def test_consuls_switch_for_tls_holds_for_every_agent() -> None:
    assert settings(CONSUL_HTTP_SSL="true").consul.agents == ("https://127.0.0.1:8500",)
    found = settings("--consul", "a:1", "--consul", "http://b:2", "--consul", "https://c:3", CONSUL_HTTP_SSL="1")
    assert found.consul.agents == ("https://a:1", "https://b:2", "https://c:3")
    assert settings(CONSUL_HTTP_SSL="false").consul.agents == ("http://127.0.0.1:8500",)
    assert refusal(CONSUL_HTTP_SSL="perhaps").startswith("CONSUL_HTTP_SSL: ")


def test_two_ttls_for_the_same_services_are_an_error() -> None:
    assert refusal("--dns-ttl", "5", "--dns-ttl", "6") == "--dns-ttl: the TTL of all services is given twice"
    assert refusal("--dns-ttl", "Web=5", "--dns-ttl", "web=6") == "--dns-ttl: web is given twice"


def registrator(*argv: str, implied: bool = True, **environ: str) -> RegistratorSettings | None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_settings(parser.parse_args([*RECURSOR, *argv]), environ, registrator=implied).registrator


def test_the_registrator_runs_where_it_is_asked_for() -> None:
    usual = RegistratorSettings(host=os.uname().nodename)
    assert registrator(implied=False) is None
    assert registrator("--internal", "--tags", "a", implied=False) is None
    assert registrator() == usual
    assert registrator("--docker", implied=False) == usual
    assert registrator("--docker", "on", implied=False) == usual
    assert registrator(CONSUL_EDGE_DOCKER="on", implied=False) == usual
    assert registrator("--docker", "off") is None
    assert registrator(CONSUL_EDGE_DOCKER="off") is None


def test_the_engine_is_the_flags_or_that_of_dockers_own_variable_or_the_usual_one() -> None:
    environ = {"DOCKER_HOST": "tcp://10.0.0.1:2375"}
    for argv, twin, expected in (
        (["--docker"], {}, "tcp://10.0.0.1:2375"),
        ([], {"CONSUL_EDGE_DOCKER": "on"}, "tcp://10.0.0.1:2375"),
        (["--docker", "unix:///run/d.sock"], {}, "unix:///run/d.sock"),
        ([], {"CONSUL_EDGE_DOCKER": "unix:///run/d.sock"}, "unix:///run/d.sock"),
        (["--docker", "unix:///run/d.sock"], {"CONSUL_EDGE_DOCKER": "off"}, "unix:///run/d.sock"),
    ):
        found = registrator(*argv, implied=False, **environ, **twin)
        assert found is not None
        assert found.docker == expected
    assert refusal("--docker", DOCKER_HOST="ssh://a").startswith("DOCKER_HOST: 'ssh://a' is neither unix:///path nor")
    assert refusal("--docker", "docker.sock").startswith("--docker: 'docker.sock' is neither unix:///path nor")
    assert settings(DOCKER_HOST="ssh://a").registrator is None


def test_every_setting_of_the_registrator_arrives() -> None:
    found = registrator(
        *("--docker", "tcp://10.0.0.1:2375", "--ip", "192.0.2.1", "--host-name", "edge-1", "--internal", "--explicit"),
        *("--use-ip-from-label", "net.address", "--tags", r"edge,a\,b", "--ttl", "30s", "--ttl-refresh", "10s"),
        *("--resync", "0", "--deregister", "on-success", "--retry-attempts", "2", "--retry-interval", "500ms"),
        *("--cleanup", "off", "--adopt", "--deregister-on-exit"),
    )
    assert found == RegistratorSettings(
        docker="tcp://10.0.0.1:2375",
        host="edge-1",
        ip="192.0.2.1",
        internal=True,
        explicit=True,
        address_label="net.address",
        tags=("edge", "a,b"),
        ttl=30,
        ttl_refresh=10,
        resync=0,
        deregister="on-success",
        attempts=3,
        retry_interval=0.5,
        cleanup=False,
        adopt=True,
        deregister_on_exit=True,
    )
    assert registrator(CONSUL_EDGE_TAGS="a, b", CONSUL_EDGE_INTERNAL="on", CONSUL_EDGE_RETRY_ATTEMPTS="-1") == (
        RegistratorSettings(host=os.uname().nodename, tags=("a", "b"), internal=True)
    )


def test_a_bare_switch_may_stand_before_any_flag() -> None:
    found = registrator("--docker", "--internal", "--cleanup", "off", "--explicit", "no", implied=False)
    assert found is not None
    assert (found.internal, found.cleanup, found.explicit) == (True, False, False)


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["--ttl", "30s"], "--ttl: goes with --ttl-refresh, and that with --ttl"),
        (["--ttl-refresh", "30s"], "--ttl: goes with --ttl-refresh, and that with --ttl"),
        (
            ["--ttl", "30s", "--ttl-refresh", "30s"],
            "--ttl-refresh: must be less than --ttl, or checks would fail between two words",
        ),
        (["--ttl", "500ms", "--ttl-refresh", "100ms"], "--ttl: must be 1s at least"),
        (["--deregister", "never"], "--deregister: 'never' is not one of always, on-success"),
        (["--retry-attempts", "-2"], "--retry-attempts: '-2' is not a whole number"),
        (["--retry-interval", "0"], "--retry-interval: must be more than 0"),
        (["--ip", "edge.example"], "--ip: 'edge.example' is not an IP address"),
        (["--host-name", "a:b"], "--host-name: 'a:b' is not the name of a machine (letters, digits, . _ -)"),
        (["--use-ip-from-label", ""], "--use-ip-from-label: '' is not the name of a label"),
        (["--internal", "perhaps"], "--internal: 'perhaps' is neither on nor off"),
    ],
)
def test_what_the_registrator_cannot_do_is_refused_even_where_it_does_not_run(argv: list[str], reason: str) -> None:
    assert refusal(*argv) == reason


@pytest.mark.parametrize(
    ("admin", "given", "address", "port"),
    [
        ("0.0.0.0:9900", "on", "", 0),
        ("192.0.2.1:9900", "on", "", 0),
        ("127.0.0.1:9900", "192.0.2.7", "192.0.2.7", 0),
        ("127.0.0.1:9900", "127.0.0.1", "127.0.0.1", 0),
        ("127.0.0.1:9900", "192.0.2.7:19900", "192.0.2.7", 19900),
        ("127.0.0.1:9900", ":19900", "", 19900),
        ("127.0.0.1:9900", "[2001:db8::1]:19900", "2001:db8::1", 19900),
    ],
)
def test_what_others_are_told_of_the_admin_server(admin: str, given: str, address: str, port: int) -> None:
    assert settings("--admin", admin).registration is None
    assert settings("--admin", admin, "--register", "off").registration is None
    assert settings("--admin", "0.0.0.0:1", "--register").registration == RegistrationSettings()
    for found in (
        settings("--admin", admin, "--register", given),
        settings("--admin", admin, CONSUL_EDGE_REGISTER=given),
    ):
        assert found.registration == RegistrationSettings(address, port)


def test_an_admin_server_that_nobody_reaches_is_not_registered() -> None:
    reason = "nobody else reaches 127.0.0.1:9900: have --admin listen elsewhere, or give the address that leads there"
    assert refusal("--register", "on") == f"--register: {reason}"
    off = "--register: the admin server is off: there is nothing to register"
    assert refusal("--register", "on", "--admin", "off") == off
    assert refusal("--register", "0.0.0.0:9900") == "--register: nobody can reach 0.0.0.0"
    assert refusal("--register", "192.0.2.1:0") == "--register: nobody can reach port 0"
    assert refusal("--register", "yes please").startswith("--register: 'yes please' is not an IP address")
