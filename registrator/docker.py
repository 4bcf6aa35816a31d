"""The Docker engine: what runs there, and what happens. The only module that knows the Docker client library."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiodocker
import aiohttp

from lb.errors import EngineError, InspectError, SettingsError
from registrator.events import KINDS, TYPES, Event, event
from registrator.inspect import container as read_container
from registrator.model import Container

TIMEOUT = 10.0
"""Seconds for one answer of the engine."""

CONNECT_TIMEOUT = 5.0

CONNECTIONS = 10
"""To the engine: one for events, the others for inspections."""

MAX_ANSWER = 16 << 20
"""Octets of one answer: a list of all containers, or one inspection."""

LINE = 1 << 19
"""Octets that are read ahead. A line of the event stream may have twice as many; it holds a container's labels."""

_ID = re.compile(r"[0-9a-zA-Z][0-9a-zA-Z_.-]{0,254}")
_TIME = re.compile(r"(?P<seconds>[^.]+)(?:\.(?P<fraction>\d{1,9})\d*)?(?P<zone>Z|[+-]\d\d:\d\d)")

_USELESS = (
    aiohttp.ClientPayloadError,
    aiohttp.http_exceptions.HttpProcessingError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RecursionError,
)
"""What the libraries raise for answers that are too long, cut short, or not what they expect."""


class Engine:
    """A Docker engine by its address, in DOCKER_HOST's words; to be made and closed inside one event loop.

    Raises SettingsError for an address that is neither `unix:///path` nor `tcp://host:port`. Its calls raise
    EngineError if the engine does not answer, or not as Docker does.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        connector = _connector(address)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT_TIMEOUT),
            response_class=_Bounded,
            read_bufsize=LINE,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # With a connector of ours the library wants to hear a host's name where a socket has none.
        url = "unix://localhost" if isinstance(connector, aiohttp.UnixConnector) else address
        self._docker = aiodocker.Docker(
            url=url, connector=connector, session=self._session, timeout=self._session.timeout
        )

    async def time(self) -> int:
        """Return what the engine's clock says, in nanoseconds since 1970."""
        async with self._errors():
            return _nanoseconds((await self._docker.system.info())["SystemTime"])

    async def running(self) -> list[str]:
        """Return the ids of all containers that run; paused ones do."""
        return await self._list({"status": ["running", "paused"]})

    async def ended(self) -> list[str]:
        """Return the ids of all containers that have run and ended."""
        return await self._list({"status": ["exited", "dead"]})

    async def _list(self, filters: dict[str, list[str]]) -> list[str]:
        async with self._errors():
            return [str(one.id) for one in await self._docker.containers.list(all=True, filters=filters)]

    async def inspect(self, container: str) -> Container | None:
        """Return a container as it is now; None if there is none.

        Raises InspectError if the engine cannot tell, or not in Docker's words: that concerns no other container.
        """
        if not _ID.fullmatch(container):
            raise InspectError(f"{container!r} is no container's id")
        try:
            async with self._errors():
                return read_container(await self._docker.containers.container(container).show())
        except _Refused as error:
            if error.status == 404:
                return None
            raise InspectError(str(error)) from error
        except _Useless as error:
            raise InspectError(str(error)) from error

    async def events(self, since: int) -> AsyncGenerator[Event, None]:
        """Yield what happens, from the moment `since` (nanoseconds of the engine's clock) on.

        Ends when the engine ends; raises EngineError. To be closed by `aclose` when no more is wanted.
        """
        stream = aiodocker.events.DockerEvents(self._docker)  # type: ignore[no-untyped-call]
        queue = stream.subscribe(create_task=False)  # type: ignore[no-untyped-call]
        seconds, nanoseconds = divmod(since, 1_000_000_000)
        filters = {"type": TYPES, "event": KINDS}
        reading = asyncio.create_task(
            self._read(stream, since=f"{seconds}.{nanoseconds:09}", filters=filters), name="Docker events"
        )
        try:
            while (document := await queue.get()) is not None:
                happened = event(document)
                if happened is not None:
                    yield happened
            await reading
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, EngineError):
                await reading

    async def _read(self, stream: aiodocker.events.DockerEvents, **params: Any) -> None:
        async with self._errors():
            await stream.run(**params)

    async def close(self) -> None:
        """Close all connections."""
        await self._docker.close()
        await self._session.close()
        await asyncio.sleep(0)  # the transports are closed in the loop's next turn

    @contextlib.asynccontextmanager
    async def _errors(self) -> AsyncIterator[None]:
        """Raise our own errors for those of the library, and for answers that are not as they should be."""
        try:
            yield
        except aiodocker.DockerError as error:
            if error.status in range(400, 600):
                raise _Refused(error.status, str(error.message)[:200]) from error
            raise EngineError(f"{self.address}: {error.__context__ or error.message}") from error
        except TimeoutError:
            raise _Useless(f"{self.address}: no answer within {TIMEOUT:g} s") from None
        except _USELESS as error:
            raise _Useless(f"{self.address}: not an answer of Docker's: {error}"[:300]) from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineError(f"{self.address}: {error or type(error).__name__}") from error


class _Refused(EngineError):
    """The engine answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class _Useless(EngineError):
    """The engine is there, but its answer is late, too long, or not what Docker's API promises."""


class _Bounded(aiohttp.ClientResponse):
    """A response that is not read to its end if it has more than `MAX_ANSWER` octets."""

    async def read(self) -> bytes:
        """See aiohttp. Raises aiohttp.ClientPayloadError for one that is too long."""
        if self._body is None:
            body = bytearray()
            async for part in self.content.iter_any():
                body += part
                if len(body) > MAX_ANSWER:
                    self.close()
                    raise aiohttp.ClientPayloadError(f"an answer of more than {MAX_ANSWER} octets")
            self._body = bytes(body)
        return await super().read()


def _nanoseconds(text: str) -> int:
    """Read a time in RFC 3339's form. Raises ValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    moment = datetime.fromisoformat(match["seconds"] + match["zone"])
    return int(moment.timestamp()) * 1_000_000_000 + int((match["fraction"] or "").ljust(9, "0"))


def check_address(address: str) -> None:
    """Raise SettingsError for an address that is neither `unix:///path` nor `tcp://host:port`."""
    try:
        parts = urlsplit(address)
        is_tcp = parts.scheme == "tcp" and bool(parts.hostname and parts.port) and parts.path in ("", "/")
    except ValueError:
        is_tcp = False
    if not is_tcp and not address.startswith("unix:///"):
        raise SettingsError("docker", f"{address!r} is neither unix:///path nor tcp://host:port")


def _connector(address: str) -> aiohttp.BaseConnector:
    check_address(address)
    if address.startswith("unix://"):
        return aiohttp.UnixConnector(address.removeprefix("unix://"), limit=CONNECTIONS)
    return aiohttp.TCPConnector(limit=CONNECTIONS)
