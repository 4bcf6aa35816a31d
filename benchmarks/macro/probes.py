"""Questions with known answers: a peer is measured only once it gives them."""

from __future__ import annotations

import http.client
import socket

import dnslib

from benchmarks.macro.site import DNS_NAMES, HOST, SMALL_REPLY, dns_addresses, dns_name

TIMEOUT = 2.0
"""Seconds for one question."""


def http_reply(port: int, host: str = HOST, text: str = SMALL_REPLY) -> bool:
    """Tell whether the service of that host name answers `text` on the port; raise OSError when nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        return answer.status == http.HTTPStatus.OK and answer.read().decode() == text
    except http.client.HTTPException:
        return False
    finally:
        connection.close()


def dns_names(port: int) -> bool:
    """Tell whether the first and the last name get their addresses; raise OSError when nothing listens."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(TIMEOUT)
        sock.connect(("127.0.0.1", port))
        for index in (0, DNS_NAMES - 1):
            sock.send(dnslib.DNSRecord.question(dns_name(index), "A").pack())
            reply = dnslib.DNSRecord.parse(sock.recv(4096))
            if {str(record.rdata) for record in reply.rr} != set(dns_addresses(index)):
                return False
    return True
