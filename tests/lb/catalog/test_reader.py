"""The long-poll loop and the fetcher against an agent whose answers are listed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from lb.catalog.client import Agent, Answer
from lb.catalog.fetcher import Fetcher
from lb.catalog.guard import EmptyGuard
from lb.catalog.ledger import Ledger
from lb.catalog.model import Snapshot
from lb.catalog.reader import Reader
from lb.catalog.status import WatchStatus
from lb.errors import AgentRefused, AgentUnreachable, BadAnswer, CatalogError
from tests.lb.catalog.samples import entry

Ask = Callable[[str, dict[str, Any]], Answer]


class ScriptedAgent:
    """Answers with what `ask` returns or raises; keeps what it was asked."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._news = asyncio.Event()

    async def asked_again(self, times: int) -> None:
        """Wait until so many more questions have come."""
        wanted = len(self.asked) + times
        while len(self.asked) < wanted:
            self._news.clear()
            await self._news.wait()

    async def get(self, path: str, **options: Any) -> Answer:
        self.asked.append((path, options))
        self._news.set()
        await asyncio.sleep(0)
        return self._ask(path, options)


def answer(index: int, body: Any = None) -> Answer:
    return Answer(index, known_leader=True, last_contact=0.0, size=10, body=body)


def run(test: Awaitable[None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await test

    asyncio.run(main())


def polled(*answers: Answer | CatalogError, useful: bool = True) -> tuple[list[int], list[int], WatchStatus]:
    """Poll through the answers; return the indexes asked with, those seen, and the status (resets are seen as -1)."""
    script = list(answers)

    def ask(path: str, options: dict[str, Any]) -> Answer:
        if not script:
            raise AgentUnreachable("the script has ended")
        step = script.pop(0)
        if isinstance(step, CatalogError):
            raise step
        return step

    agent, status, seen = ScriptedAgent(ask), WatchStatus(), []

    def on_answer(step: Answer) -> bool:
        seen.append(step.index)
        return useful

    async def main() -> None:
        reader = Reader(cast(Agent, agent), status)
        with pytest.raises(AgentUnreachable):
            await reader.poll("/t", on_answer, lambda: seen.append(-1), wait=9.0)

    run(main())
    return [options["index"] for _, options in agent.asked], seen, status


def test_each_answer_tells_the_index_of_the_next_question() -> None:
    asked, seen, status = polled(answer(5), answer(5), answer(8))
    assert asked == [0, 5, 5, 8]
    assert seen == [5, 5, 8]
    assert (status.answers, status.errors["unreachable"], status.connections) == (3, 1, 0)


def test_an_index_that_goes_backwards_starts_again_from_0() -> None:
    asked, seen, _ = polled(answer(50), answer(7), answer(7))
    assert asked == [0, 50, 0, 7]
    assert seen == [50, 7, -1, 7]


def test_an_error_is_borne_and_the_question_starts_again_from_0() -> None:
    asked, seen, status = polled(answer(5), AgentRefused(500, "rpc error"), answer(6))
    assert asked == [0, 5, 0, 6]
    assert seen == [5, 6]
    assert (status.errors["refused"], status.last_error) == (1, "the script has ended")


def fetching(
    ask: Ask,
    test: Callable[[Fetcher, Ledger, ScriptedAgent], Awaitable[None]],
    on_change: Callable[[str], None] = lambda name: None,
) -> None:
    """Run `test` beside two workers of a fetcher."""

    async def main() -> None:
        agent, ledger, status = ScriptedAgent(ask), Ledger(Snapshot()), WatchStatus()
        reader = Reader(cast(Agent, agent), status)
        fetcher = Fetcher(reader, ledger, EmptyGuard(0.05), status, on_change)
        workers = [asyncio.create_task(fetcher.work()) for _ in range(2)]
        try:
            await test(fetcher, ledger, agent)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)

    run(main())


def test_a_service_that_cannot_be_read_does_not_keep_the_others_waiting() -> None:
    def ask(path: str, options: dict[str, Any]) -> Answer:
        name = path.rpartition("/")[2]
        if name == "odd":
            raise BadAnswer("not JSON")
        if name == "denied":
            raise AgentRefused(400, "bad name")
        return answer(5, [entry(name=name)])

    async def test(fetcher: Fetcher, ledger: Ledger, agent: ScriptedAgent) -> None:
        fetcher.start(["odd", "web", "denied", "..", "db"])
        await fetcher.first_pass_done.wait()
        assert set(ledger.services) == {"web", "db"}
        assert {p.subject: p.reason for p in ledger.problems} == {
            "odd": "not JSON",
            "denied": "HTTP 400: bad name",
            "..": "a service of this name cannot be asked for",
        }

    fetching(ask, test)


def test_once_all_is_known_the_leader_is_asked_and_without_one_any_server() -> None:
    leaderless = False

    def ask(path: str, options: dict[str, Any]) -> Answer:
        if leaderless and options["consistency"] == "default":
            raise AgentRefused(500, "No cluster leader")
        return answer(5, [entry()])

    async def test(fetcher: Fetcher, ledger: Ledger, agent: ScriptedAgent) -> None:
        nonlocal leaderless
        fetcher.start(["web"])
        await fetcher.first_pass_done.wait()
        assert [options["consistency"] for _, options in agent.asked] == ["stale"]
        ledger.complete = True
        await fetcher.read("web")
        leaderless = True
        await fetcher.read("web")
        await fetcher.read("web")  # not every service waits for a leader that was not there a moment ago
        assert [options["consistency"] for _, options in agent.asked[1:]] == ["default", "default", "stale", "stale"]

    fetching(ask, test)


def test_a_held_service_stays_until_a_leader_says_that_it_is_gone() -> None:
    bodies: list[Any] = [[entry()]]
    leaderless = True

    def ask(path: str, options: dict[str, Any]) -> Answer:
        if leaderless and options["consistency"] == "default":
            raise AgentRefused(500, "No cluster leader")
        return answer(5, bodies[-1])

    changed = asyncio.Event()

    async def test(fetcher: Fetcher, ledger: Ledger, agent: ScriptedAgent) -> None:
        nonlocal leaderless
        fetcher.start(["web"])
        await fetcher.first_pass_done.wait()
        changed.clear()
        bodies.append([])
        await fetcher.read("web")
        await agent.asked_again(3)
        assert "web" in ledger.services
        leaderless = False
        await changed.wait()
        assert "web" not in ledger.services

    fetching(ask, test, lambda name: changed.set())
