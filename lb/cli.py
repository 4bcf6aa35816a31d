"""The command `consul-edge`: argv -> settings -> what was asked for."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

import uvloop

from lb.demo import command as demo
from lb.errors import EdgeError, SettingsError
from lb.flags import add_flags
from lb.lifecycle import Service
from lb.observe import log
from lb.observe.tables import fetch, routes_text, status_text
from lb.proxy.ceiling import raise_limit
from lb.reading import read_admin, read_settings
from lb.settings import Address, Settings
from lb.upgrade import upgrade
from lb.version import VERSION

_ENVIRONMENT = (
    "Every flag has a twin in the environment, CONSUL_EDGE_<FLAG>; Consul's own variables (CONSUL_HTTP_ADDR, "
    "CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL, CONSUL_HTTP_SSL_VERIFY, CONSUL_CACERT, "
    "CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY) are read, too."
)

_PARTS = {
    "run": "HTTP, TCP, TLS and DNS on one node, and the registrator with --docker",
    "lb": "HTTP, TCP and TLS alone",
    "dns": "DNS alone",
    "registrator": "containers of a Docker engine become Consul services, and nothing else",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for what went wrong, 2 for wrong usage."""
    args = _parser().parse_args(argv)
    try:
        status: int = args.action(args)
    except SettingsError as error:
        print(f"consul-edge: {error}", file=sys.stderr)
        return 2
    except EdgeError as error:
        print(f"consul-edge: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="consul-edge",
        description=(
            "Balances HTTP, TCP and TLS over the services of a Consul catalog, answers DNS from it, "
            "and registers Docker's containers in it."
        ),
    )
    parser.add_argument("--version", action="version", version=f"consul-edge {VERSION}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in _PARTS.items():
        description = f"{text[0].upper()}{text[1:]}."
        # No abbreviations: one that works today would break with the next flag.
        command = commands.add_parser(name, help=text, description=description, epilog=_ENVIRONMENT, allow_abbrev=False)
        add_flags(command)
        command.set_defaults(action=_run, part=name)
    command = commands.add_parser("demo", help="everything on loopback, with a catalog and sample services of its own")
    demo.add_arguments(command)
    command.set_defaults(action=_demo)
    for name, text in (("status", "how a running node is doing"), ("routes", "what a running node routes where")):
        command = commands.add_parser(name, help=text, description=f"{text.capitalize()}.")
        _add_admin(command)
        command.add_argument("--json", action="store_true", help="print JSON rather than a table")
        command.set_defaults(action=_show, what=name)
    text = "start the program anew, code and all, without losing a connection"
    command = commands.add_parser("upgrade", help=text, description=f"{text.capitalize()}.")
    _add_admin(command)
    command.set_defaults(action=_upgrade)
    return parser


def _add_admin(command: argparse.ArgumentParser) -> None:
    command.add_argument("--admin", metavar="ADDR:PORT", help="admin address of the node (127.0.0.1:9900)")


def _run(args: argparse.Namespace) -> int:
    settings = _part(read_settings(args, registrator=args.part == "registrator"), args.part)
    secrets = log.setup(settings.log, [settings.consul.token])
    return _loop(_serve(settings, secrets))


def _part(settings: Settings, part: str) -> Settings:
    """Leave out what was not asked for. Raises SettingsError if nothing is left."""
    if part in ("dns", "registrator"):
        settings = replace(settings, http=None, tcp=None, tls=None)
    if part in ("lb", "registrator"):
        settings = replace(settings, dns=None)
    if part in ("lb", "dns"):
        settings = replace(settings, registrator=None)
    if not (settings.http or settings.tcp or settings.tls or settings.dns or settings.registrator):
        raise SettingsError(part, "everything that it would run is turned off")
    return settings


async def _serve(settings: Settings, secrets: log.Secrets) -> int:
    await Service(settings, secrets.add).run()
    return 0


def _demo(args: argparse.Namespace) -> int:
    return _loop(demo.demo(args))


def _loop(main: Coroutine[Any, Any, int]) -> int:
    raise_limit()  # workers inherit it
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def _admin(args: argparse.Namespace) -> Address:
    admin = read_admin(args)
    if admin is None:
        raise EdgeError("the admin server is off: there is nobody to ask (--admin names an address)")
    return admin


def _upgrade(args: argparse.Namespace) -> int:
    old, new = upgrade(_admin(args))
    print(f"consul-edge: process {new['pid']} (version {new['version']}) follows {old['pid']} ({old['version']})")
    return 0


def _show(args: argparse.Namespace) -> int:
    admin = _admin(args)
    data = fetch(admin, f"/api/{args.what}")
    if args.json:
        print(json.dumps(data, indent=2))
    else:
        print(status_text(data) if args.what == "status" else routes_text(data), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
