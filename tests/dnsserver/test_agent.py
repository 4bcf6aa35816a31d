"""What is asked of an agent, how often, and what is said while it does not answer. The clock is moved by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import pytest

from dnsserver import agent as agents
from dnsserver.agent import FRESH, AgentAnswers
from dnsserver.remote import AgentAnswer, AgentQuestion, Form
from dnsserver.stats import DnsStats
from lb.errors import AgentRefused, AgentUnreachable

QUESTION = AgentQuestion(Form.NODE, "/v1/catalog/node/n1", "dc2")


class Agent:
    """Answers once it is let go: with a node, or as `failure` says."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Mapping[str, str]]] = []
        self.failure: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()

    async def ask(self, path: str, params: Mapping[str, str]) -> Any:
        self.asked.append((path, params))
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return {"Node": {"Node": "n1", "Address": f"10.0.0.{len(self.asked)}"}}


class Clock:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def scene(play: Callable[[Agent, AgentAnswers, DnsStats, Clock], Coroutine[Any, Any, None]]) -> None:
    """Run a scene with an agent, what is kept of it, and the clock."""

    async def run() -> None:
        async with asyncio.timeout(5):
            agent, stats, clock = Agent(), DnsStats(), Clock()
            answers = AgentAnswers(agent.ask, stats, keep=60, clock=clock)
            await play(agent, answers, stats, clock)
            await answers.close()
            assert not stats.faults

    asyncio.run(run())


async def find(answers: AgentAnswers, question: AgentQuestion = QUESTION) -> str:
    """Ask and wait; return the node's address, "nothing" or "failed"."""
    done: asyncio.Future[AgentAnswer | None] = asyncio.get_running_loop().create_future()
    answers.find(question, done.set_result)
    return told(await done)


def told(found: AgentAnswer | None) -> str:
    if found is None:
        return "failed"
    return found.nodes["n1"].address if found.nodes else "nothing"


def test_an_answer_is_kept_for_its_time() -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        assert [await find(answers) for _ in range(3)] == ["10.0.0.1"] * 3
        assert agent.asked == [("/v1/catalog/node/n1", {"dc": "dc2"})]
        clock.now += FRESH
        assert await find(answers) == "10.0.0.2"
        assert stats.agent == {"ok": 2, "cached": 2}

    scene(play)


def test_many_askers_are_one_question() -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        agent.go.clear()
        waiting = [asyncio.ensure_future(find(answers)) for _ in range(100)]
        await asyncio.sleep(0)
        agent.go.set()
        assert set(await asyncio.gather(*waiting)) == {"10.0.0.1"}
        assert len(agent.asked) == 1

    scene(play)


def test_the_last_answer_goes_on_while_no_agent_answers_but_not_for_ever() -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        await find(answers)
        agent.failure = AgentUnreachable("gone")
        for _ in range(6):
            clock.now += 9.9
            assert await find(answers) == "10.0.0.1"
        clock.now += 9.9
        assert await find(answers) == "failed"
        agent.failure = None
        clock.now += FRESH
        assert await find(answers) == "10.0.0.9"

    scene(play)


def test_a_failure_is_not_repeated_at_once() -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        agent.failure = AgentUnreachable("gone")
        assert [await find(answers) for _ in range(50)] == ["failed"] * 50
        assert (len(agent.asked), stats.agent["failed"]) == (1, 1)

    scene(play)


@pytest.mark.parametrize(
    ("failure", "answer", "result"),
    [
        (AgentRefused(500, "No path to datacenter"), "nothing", "nothing"),
        (AgentRefused(500, "No cluster leader"), "failed", "refused"),
        (AgentRefused(403, "Permission denied"), "failed", "refused"),
        (TimeoutError(), "failed", "failed"),
    ],
)
def test_refusals(failure: Exception, answer: str, result: str) -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        agent.failure = failure
        assert await find(answers) == answer
        assert stats.agent == {result: 1}

    scene(play)


def test_what_strangers_ask_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_QUESTIONS", 3)
    monkeypatch.setattr(agents, "MAX_WAITING", 10)

    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        agent.go.clear()
        found: list[str] = []
        for number in range(20):
            answers.find(QUESTION._replace(path=f"/{number}"), lambda one: found.append(told(one)))
        for _ in range(20):
            answers.find(QUESTION._replace(path="/0"), lambda one: found.append(told(one)))
        await asyncio.sleep(0)
        assert (len(agent.asked), found) == (3, ["failed"] * 30)
        assert stats.dropped == {"agent_full": 30}
        agent.go.set()
        await answers.drain(5)
        assert len(found) == 40

    scene(play)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agents, "MAX_INSTANCES", 10)

    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        for number in range(30):
            await find(answers, QUESTION._replace(path=f"/{number}"))
        asked = len(agent.asked)
        for number in range(20, 30):
            await find(answers, QUESTION._replace(path=f"/{number}"))
        assert len(agent.asked) == asked
        await find(answers, QUESTION._replace(path="/19"))
        assert len(agent.asked) == asked + 1

    scene(play)


def test_who_waits_is_told_when_all_ends() -> None:
    async def play(agent: Agent, answers: AgentAnswers, stats: DnsStats, clock: Clock) -> None:
        agent.go.clear()
        waiting = asyncio.ensure_future(find(answers))
        await asyncio.sleep(0)
        await answers.close()
        assert await waiting == "failed"

    scene(play)
