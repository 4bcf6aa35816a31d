"""Who may know whom: the table of the design, checked on every import of `lb`, `dnsserver` and `registrator`.

A room is a package or a module of the three trees. Its imports of other rooms must be in the table; the pure ones may
not touch an event loop, a clock or a socket at all; and no modules import one another in a circle.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TREES = ("lb", "dnsserver", "registrator")

EVERYTHING = "everything"

# Room -> rooms it may import, beside itself.
MAY_IMPORT: dict[str, str] = {
    "lb": "",  # the package itself
    "lb.errors": "",
    "lb.version": "",
    "lb.deadlines": "",
    "lb.pauses": "",
    "lb.systemd": "lb.errors",
    "lb.settings": "lb.errors",
    "lb.sockets": "lb.settings lb.errors",
    "lb.keeper": "lb.sockets lb.observe lb.catalog.model lb.settings lb.errors",
    "lb.values": "lb.settings lb.errors",
    "lb.catalog.model": "lb.errors",
    "lb.board": "lb.errors",
    "lb.http1": "lb.errors",
    "lb.wire": "lb.errors",
    "lb.catalog": "lb.catalog.model lb.settings lb.errors",
    "lb.routing": "lb.catalog.model lb.settings lb.errors",
    "lb.balance": "lb.board lb.routing lb.catalog.model lb.settings lb.errors",
    "lb.upstream": "lb.deadlines lb.settings lb.errors",
    "lb.observe": "lb.board lb.catalog.model lb.settings lb.errors lb.version",
    "lb.proxy": (
        "lb.http1 lb.wire lb.routing lb.balance lb.board lb.upstream lb.observe lb.catalog.model lb.deadlines "
        "lb.settings lb.sockets lb.errors"
    ),
    "dnsserver": "lb.catalog lb.catalog.model lb.observe lb.deadlines lb.settings lb.sockets lb.errors",
    "registrator": "lb.catalog lb.catalog.model lb.observe lb.settings lb.values lb.errors",
    "lb.dataplane": "lb.proxy lb.balance lb.observe lb.catalog lb.catalog.model lb.settings lb.sockets dnsserver",
    "lb.workers": (
        "lb.dataplane lb.proxy lb.balance lb.board lb.observe lb.catalog lb.catalog.model lb.pauses lb.settings "
        "lb.sockets lb.errors dnsserver"
    ),
    "lb.planes": "lb.dataplane lb.proxy lb.observe lb.catalog.model lb.settings lb.sockets dnsserver",
    "lb.panel": "lb.planes lb.keeper lb.catalog lb.catalog.model lb.observe lb.version dnsserver registrator",
    "lb.registration": "lb.catalog lb.observe lb.settings lb.errors lb.version",
    "lb.handover": "lb.workers lb.catalog lb.catalog.model lb.sockets lb.errors",
    "lb.upgrade": "lb.observe lb.settings lb.errors",
    "lb.flags": "lb.values lb.http1 lb.settings lb.errors",
    "lb.reading": "lb.flags lb.values lb.settings lb.errors dnsserver",
    "lb.node": EVERYTHING,
    "lb.lifecycle": EVERYTHING,
    "lb.demo": EVERYTHING,
    "lb.cli": EVERYTHING,
}

# These compute: what they need of time is an argument, and octets come and go by arguments, too.
PURE = (
    "lb.errors lb.settings lb.values lb.catalog.model lb.catalog.decode lb.routing lb.balance lb.board lb.http1 "
    "lb.wire dnsserver.answers dnsserver.cache dnsserver.clients dnsserver.members dnsserver.message "
    "dnsserver.names dnsserver.places dnsserver.records dnsserver.remote dnsserver.replies dnsserver.wire "
    "dnsserver.zone dnsserver.resolvconf dnsserver.failures dnsserver.foreign dnsserver.health dnsserver.hosts "
    "dnsserver.rules dnsserver.upstream registrator.model registrator.inspect registrator.keys registrator.checks "
    "registrator.services registrator.registered registrator.plan registrator.heartbeat registrator.events "
    "registrator.roster registrator.book registrator.stats lb.catalog.departures"
)
IMPURE = "asyncio uvloop aiohttp aiodocker consul time datetime socket select selectors ssl threading subprocess"

# Library -> where it may be used.
LIBRARIES = {
    "uvloop": "lb.cli lb.workers.worker",
    "aiohttp": "lb.catalog.client lb.observe.admin lb.demo registrator.docker",
    "aiodocker": "registrator.docker",
    "consul": "lb.catalog.client",
    "dnslib": "lb.demo",
    "prometheus_client": "lb.observe dnsserver.metrics registrator.metrics",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for tree in TREES for path in sorted((ROOT / tree).rglob("*.py"))}


def is_within(module: str, rooms: str) -> bool:
    """Whether a module is one of these rooms, or in one."""
    return any(module == room or module.startswith(room + ".") for room in rooms.split())


def room_of(module: str) -> str:
    """The room that a module belongs to: of several that fit, the innermost."""
    return max((room for room in MAY_IMPORT if is_within(module, room)), key=len)


def statements(tree: ast.AST, *, types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """All import statements, wherever they stand; those under TYPE_CHECKING only with `types`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from statements(node, types=types)


def imports(module: str, *, types: bool = True) -> set[str]:
    """The modules that a module of ours imports, in full."""
    found: set[str] = set()
    for node in statements(ast.parse(FILES[module].read_text()), types=types):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        else:
            assert node.level == 0, f"{module}: relative import"
            assert node.module is not None
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in FILES else node.module)
    return found


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    room = room_of(module)
    allowed = MAY_IMPORT[room]
    ours = {name for name in imports(module) if name in FILES}
    if allowed != EVERYTHING:
        assert {name for name in ours if room_of(name) not in (room, *allowed.split())} == set()


@pytest.mark.parametrize("module", [module for module in FILES if is_within(module, PURE)])
def test_a_pure_module_reaches_no_loop_no_clock_and_no_socket(module: str) -> None:
    reached, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += imports(name) if name in FILES else ()
    assert {name for name in reached if is_within(name, IMPURE)} == set()


@pytest.mark.parametrize("module", FILES)
def test_libraries_are_known_to_few(module: str) -> None:
    for name in imports(module):
        top = name.partition(".")[0]
        known = name in FILES or top in sys.stdlib_module_names or top in LIBRARIES
        assert known, f"{top} is not among the libraries of this program"
        if top in LIBRARIES:
            assert is_within(module, LIBRARIES[top]), f"{top} is not for this room"


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {module: imports(module, types=False) & FILES.keys() for module in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_line_of_the_tables_means_something() -> None:
    rooms = [*MAY_IMPORT, *PURE.split(), *(room for where in LIBRARIES.values() for room in where.split())]
    assert {room for room in rooms if room not in FILES} == set()
    allowed = {room for rooms in MAY_IMPORT.values() if rooms != EVERYTHING for room in rooms.split()}
    assert allowed <= MAY_IMPORT.keys()
