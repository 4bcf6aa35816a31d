"""The page for people."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from lb.catalog.model import Problem
from lb.observe.page import MAX_ROWS, page
from lb.observe.views import CatalogView, endpoint_views, route_json
from tests.lb.observe.samples import FakeEndpoint, FakeRoute, a_status, a_worker

HOSTILE = '<script>alert("1")</script>&\''


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_shows_status_and_routes() -> None:
    routes = [route_json(FakeRoute(), endpoint_views("web", "http", [FakeEndpoint()], now=0))]
    text = " ".join(Reader(page(a_status(), routes)).words)
    for shown in (
        "1.2.3",
        "4711",
        "1d 2h",
        "address already in use",
        "http web.example.com",
        "10.0.0.1:80",
        "lb_max_fails",
    ):
        assert shown in text


def test_the_page_shows_workers() -> None:
    words = Reader(page(a_status(workers=[a_worker(7)]), [])).words
    start = words.index("Workers")
    assert words[start + 6 : start + 11] == ["7", "107", "1d 2h", "45.0 MiB", "67"]
    assert "Workers" not in Reader(page(a_status(), [])).words


def test_the_page_tells_of_an_upgrade_that_failed() -> None:
    assert f"failed: {HOSTILE}" in Reader(page(a_status(HOSTILE), [])).words
    assert "Upgrade" not in Reader(page(a_status(), [])).words


def test_all_that_comes_from_outside_is_escaped() -> None:
    status = a_status(
        ready=False,
        reasons=(HOSTILE,),
        catalog=CatalogView(agent=HOSTILE, datacenter=HOSTILE, age=1.0),
        problems=(Problem(HOSTILE, HOSTILE, HOSTILE),),
    )
    status["listeners"][0]["listener"] = status["listeners"][1]["error"] = HOSTILE
    endpoint = FakeEndpoint(name=HOSTILE)
    routes = [
        route_json(FakeRoute(HOSTILE, "http", HOSTILE, (HOSTILE,), HOSTILE), endpoint_views("", "", [endpoint], now=0))
    ]
    shown = Reader(page(status, routes))
    assert "script" not in shown.tags
    assert "".join(shown.words).count(HOSTILE) == 13


def test_nothing_is_loaded_from_elsewhere() -> None:
    text = page(a_status(), [])
    assert re.findall(r"(?:src|href)=\"(?!/)", text) == []
    assert "url(" not in text


def test_a_long_list_of_routes_is_cut_and_says_so() -> None:
    routes = [route_json(FakeRoute(f"web-{number}"), ()) for number in range(MAX_ROWS + 1)]
    text = page(a_status(), routes)
    assert f"web-{MAX_ROWS - 1}<" in text
    assert f"web-{MAX_ROWS}<" not in text
    assert f"first {MAX_ROWS} routes" in text
    assert "are shown" not in page(a_status(), routes[:-1])


def test_a_long_list_of_problems_is_cut_and_counted() -> None:
    problems = [Problem("option", f"web-{number}", "x") for number in range(MAX_ROWS + 1)]
    text = page(a_status(problems=problems), [])
    assert f"Problems: {MAX_ROWS + 1}<" in text
    assert f"web-{MAX_ROWS - 1}<" in text
    assert f"web-{MAX_ROWS}<" not in text


def test_a_route_without_instances_says_so() -> None:
    assert "no passing instance" in page(a_status(), [route_json(FakeRoute(), ())])
