"""The configuration text of origin, HTTP and TCP peers. Pure: ports and folders in, text out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.macro.site import BULK_BYTES, HOST, SERVICE, SMALL_REPLY

NGINX_CONNECTIONS = 16384
"""Connections that one nginx worker may have: room for the idle clients of the memory checks."""


def nginx(work: Path, name: str, body: str, *, workers: int = 1, head: str = "") -> str:
    """Wrap `body` (an http or stream block) into a configuration that stays in the foreground and below `work`."""
    return f"""\
{head}
user root;
daemon off;
worker_processes {workers};
worker_rlimit_nofile {NGINX_CONNECTIONS};
pid {work}/{name}.pid;
error_log stderr error;
events {{ worker_connections {NGINX_CONNECTIONS}; }}
{body}"""


def http_block(work: Path, name: str, body: str) -> str:
    """Return an nginx http block with the settings that Debian ships, but no access log unless `body` names one."""
    temp_paths = "\n".join(
        f"    {kind}_temp_path {work}/{name}-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""\
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
{temp_paths}
{body}
}}
"""


def origin(work: Path, ports: Sequence[int], workers: int) -> str:
    """nginx as the service's instances: a small reply from memory, a 1 MiB file, and uploads that are read and dropped.

    `return` would answer an upload before its body has come, and proxies then stop half-way. So /upload passes the
    request on, without its body, to this nginx itself: that waits for the whole body.
    """
    reply = SMALL_REPLY.replace("\n", "\\n")
    servers = "\n".join(
        f"""\
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ return 200 "{reply}"; }}
        location = /bulk {{ root {work}; }}
        location = /upload {{
            client_body_buffer_size {BULK_BYTES};
            proxy_pass_request_body off;
            proxy_set_header Content-Length "";
            proxy_set_header Connection "";
            proxy_http_version 1.1;
            proxy_pass http://self/;
        }}
    }}"""
        for port in ports
    )
    body = f"""\
    default_type text/plain;
    keepalive_requests 10000000;
    client_max_body_size {BULK_BYTES};
    open_file_cache max=10;
    upstream self {{
        server 127.0.0.1:{ports[0]};
        keepalive 64;
        keepalive_requests 10000000;
    }}
{servers}"""
    return nginx(work, "origin", http_block(work, "origin", body), workers=workers)


def nginx_templates(work: Path, port: int, origins: Sequence[int]) -> str:
    """nginx exactly as the consul-template templates configure it: HTTP/1.0 to the instances, a connection each."""
    body = f"""\
    upstream {SERVICE} {{
{_servers(origins, "max_fails=3 fail_timeout=60 weight=1")}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        server_name {HOST};
        location / {{ proxy_pass http://{SERVICE}; }}
    }}"""
    return nginx(work, "nginx-templates", http_block(work, "nginx-templates", body))


def nginx_tuned(
    work: Path,
    port: int,
    origins: Sequence[int],
    *,
    name: str = "nginx-tuned",
    access_log: Path | None = None,
    workers: int = 1,
) -> str:
    """nginx at its best for this work: upstream keep-alive, nothing on disk, buffers that the cache can hold.

    An access log is written in pieces of 64 KiB or every 100 ms, as consul-edge writes its own.
    """
    log = f"access_log {access_log} combined buffer=64k flush=100ms;" if access_log else ""
    body = f"""\
    keepalive_requests 10000000;
    upstream {SERVICE} {{
{_servers(origins, "max_fails=3 fail_timeout=60 weight=1")}
        keepalive 64;
        keepalive_requests 10000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        server_name {HOST};
        {log}
        location / {{
            proxy_pass http://{SERVICE};
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffers 8 16k;
            proxy_busy_buffers_size 32k;
            client_body_buffer_size 16k;
        }}
    }}"""
    return nginx(work, name, http_block(work, name, body), workers=workers)


def nginx_stream(work: Path, port: int, origins: Sequence[int], module: Path | None) -> str:
    """nginx's stream module as the templates configure it; `module` is its file, None when it is built in."""
    body = f"""\
stream {{
    upstream {SERVICE} {{
        least_conn;
{_servers(origins, "max_fails=3 fail_timeout=30s weight=5")}
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_pass {SERVICE};
    }}
}}
"""
    return nginx(work, "nginx-stream", body, head=f"load_module {module};" if module else "")


def haproxy(http_port: int, tcp_port: int, origins: Sequence[int]) -> str:
    """HAProxy with one thread and upstream connections that are always reused."""
    servers = "\n".join(f"    server s{index} 127.0.0.1:{port}" for index, port in enumerate(origins))
    return f"""\
global
    nbthread 1
    maxconn 8192
defaults
    timeout connect 60s
    timeout client 600s
    timeout server 600s
listen http
    mode http
    bind 127.0.0.1:{http_port} backlog 4096
    balance roundrobin
    http-reuse always
    option http-keep-alive
    option forwardfor
{servers}
listen tcp
    mode tcp
    bind 127.0.0.1:{tcp_port} backlog 4096
    balance leastconn
{servers}
"""


def _servers(origins: Sequence[int], options: str) -> str:
    return "\n".join(f"        server 127.0.0.1:{port} {options};" for port in origins)
