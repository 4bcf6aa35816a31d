"""Asking a Consul agent: the only module that knows the client library (py-consul, on aiohttp).

py-consul's HTTP layer is used below its convenience calls, which hide the headers of an answer and take no
`stale`. Two of its parts are replaced: the connector (our TLS settings and connection limit) and the
reading of a body (bytes, with a limit).
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import consul.aio
import consul.base

from lb.errors import AgentRefused, AgentUnreachable, BadAnswer, CatalogError, SettingsError
from lb.settings import ConsulSettings

log = logging.getLogger(__name__)

Consistency = Literal["stale", "default"]

MAX_ANSWER = 256 << 20
"""The largest answer that is read, in bytes."""

READ_TIMEOUT = 10.0
"""Seconds for a read that does not block. Consul holds a default read for 7 s while there is no leader."""

MARGIN = 10.0
"""Seconds beyond the longest time for which the agent may hold a blocking query."""

_CONNECT_TIMEOUT = 5.0
_TOKEN_REFUSED = (401, 403)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the agent: its JSON `body` and what the headers say.

    `index` is at least 1. `last_contact` is how long ago (seconds) the
    answering server heard from its leader, `size` the length of the body in bytes.
    """

    index: int
    known_leader: bool
    last_contact: float
    size: int
    body: Any


class Token:
    """The ACL token: from its file, which is read again when an agent refuses the token, else as given.

    That the file comes first is Consul's own way. Whatever is found in it is told to `hide`, once.
    """

    def __init__(self, settings: ConsulSettings, hide: Callable[[str], None] = lambda _: None) -> None:
        self._file = settings.token_file
        self._value = settings.token
        self._hide = hide
        self.reload()

    @property
    def headers(self) -> dict[str, str]:
        """The headers that carry the token."""
        return {"X-Consul-Token": self._value} if self._value else {}

    def reload(self) -> bool:
        """Read the token file again; return whether the token is another one now."""
        if self._file is None:
            return False
        try:
            value = self._file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            log.warning("token file %s: %s", self._file, error)
            return False
        if not value.isprintable():
            log.warning("token file %s: more than one line, or not text", self._file)
            return False
        if not value or value == self._value:
            return False
        self._hide(value)
        self._value = value
        return True


class Agent:
    """One Consul agent, by its base URL; to be made and closed inside a running event loop."""

    def __init__(self, url: str, settings: ConsulSettings, token: Token) -> None:
        self.url = url.rstrip("/")
        self._datacenter = settings.datacenter
        self._token = token
        self._client = _Consul(self.url, settings)

    async def get(
        self,
        path: str,
        *,
        consistency: Consistency = "stale",
        index: int = 0,
        wait: float = 0.0,
        content_hash: str = "",
        matching: str = "",
        datacenter: str = "",
    ) -> Answer:
        """GET `path`; with an `index`, block for up to `wait` seconds until there is a higher one.

        With a `content_hash` (paths of the agent's own know no index) block until the content has another one.
        `matching` is a filter expression of Consul; `datacenter` is asked about instead of that of the settings.
        Raises `AgentUnreachable`, `AgentRefused` or `BadAnswer`.
        """
        params: list[tuple[str, str]] = []
        timeout = READ_TIMEOUT
        if consistency == "stale":
            params.append(("stale", ""))
        if index or content_hash:
            params.append(("index", str(index)) if index else ("hash", content_hash))
            params.append(("wait", f"{max(1, round(wait * 1000))}ms"))
            timeout = wait + wait / 16 + MARGIN  # Consul adds up to a sixteenth to spread its callers
        if matching:
            params.append(("filter", matching))
        if datacenter or self._datacenter:
            params.append(("dc", datacenter or self._datacenter))
        try:
            return await self._ask(path, params, timeout)
        except AgentRefused as error:
            if error.status in _TOKEN_REFUSED and self._token.reload():
                return await self._ask(path, params, timeout)
            raise

    async def put(self, path: str, body: object = None, params: Mapping[str, str] | None = None) -> None:
        """PUT `body` as JSON to `path`, and ignore what the answer holds; raises as `get` does."""
        data = b"" if body is None else json.dumps(body).encode()
        try:
            await self._put(path, data, params or {})
        except AgentRefused as error:
            if error.status not in _TOKEN_REFUSED or not self._token.reload():
                raise
            await self._put(path, data, params or {})

    async def has_leader(self) -> bool:
        """Tell whether the agent answers and knows a leader; raises as `get` does."""
        return bool((await self.get("/v1/status/leader")).body)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()
        await asyncio.sleep(0)  # the transports are closed in the loop's next turn

    async def _ask(self, path: str, params: list[tuple[str, str]], limit: float) -> Answer:
        asked = self._client.http.get(
            _answer, path, params=params, headers=self._token.headers, connections_timeout=limit
        )
        answer: Answer = await self._result(asked, limit)
        return answer

    async def _put(self, path: str, data: bytes, params: Mapping[str, str]) -> None:
        asked = self._client.http.put(
            _accepted,
            path,
            params=list(params.items()),
            data=data,
            headers=self._token.headers,
            connections_timeout=READ_TIMEOUT,
        )
        await self._result(asked, READ_TIMEOUT)

    async def _result(self, asked: Awaitable[Any], limit: float) -> Any:
        """Wait for what the client library does; raise our own errors for its."""
        try:
            return await asked
        except CatalogError:
            raise
        except TimeoutError:
            raise AgentUnreachable(f"{self.url}: no answer within {limit:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise AgentUnreachable(f"{self.url}: {error or type(error).__name__}") from error


def _accepted(response: consul.base.Response) -> None:
    """Raise `AgentRefused` unless what was asked for was done."""
    if response.code != 200:
        raise AgentRefused(response.code, response.body[:200].decode("utf-8", "replace").strip())


def _answer(response: consul.base.Response) -> Answer:
    """Make an `Answer` of py-consul's response; raise `AgentRefused` or `BadAnswer`."""
    _accepted(response)
    try:
        body = json.loads(response.body)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not JSON: {error}") from None
    headers: Mapping[str, str] = response.headers
    return Answer(
        index=max(1, _number(headers.get("X-Consul-Index"))),
        known_leader=headers.get("X-Consul-KnownLeader", "true") == "true",
        last_contact=_number(headers.get("X-Consul-LastContact")) / 1000,
        size=len(response.body),
        body=body,
    )


def _number(header: str | None) -> int:
    return int(header) if header is not None and header.isascii() and header.isdigit() else 0


class _Consul(consul.aio.Consul):  # type: ignore[misc]  # the library has no types
    """py-consul's client with our HTTP layer in it."""

    def __init__(self, url: str, settings: ConsulSettings) -> None:
        self._url = url
        self._settings = settings
        parts = urlsplit(url)
        super().__init__(host=parts.hostname, port=parts.port, scheme=parts.scheme)

    def http_connect(self, *_: object, **__: object) -> _HttpClient:
        """Make the HTTP layer; py-consul calls this from its constructor."""
        return _HttpClient(self._url, self._settings)


class _HttpClient(consul.aio.HTTPClient):  # type: ignore[misc]  # the library has no types
    """py-consul's HTTP layer with our connector, and bodies as bytes up to `MAX_ANSWER`."""

    def __init__(self, url: str, settings: ConsulSettings) -> None:
        # The constructor of consul.aio builds a connector that takes neither our TLS context nor all limits.
        consul.base.HTTPClient.__init__(self)
        self.base_uri = url
        connector = aiohttp.TCPConnector(
            limit=settings.max_connections,
            ssl=_tls_context(settings) if url.startswith("https:") else True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept-Encoding": "identity"},  # next door, packing costs more than it saves
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _request(
        self,
        callback: Callable[[consul.base.Response], Any],
        method: str,
        uri: str,
        headers: dict[str, str] | None,
        data: bytes | None = None,
        connections_timeout: float | None = None,
        raw: bool = True,
    ) -> Any:
        timeout = aiohttp.ClientTimeout(total=connections_timeout, sock_connect=_CONNECT_TIMEOUT)
        async with self._session.request(
            method, uri, headers=headers, data=data, timeout=timeout, allow_redirects=False
        ) as response:
            body = await _read(response.content, MAX_ANSWER)
            return callback(consul.base.Response(response.status, response.headers, body))


async def _read(stream: aiohttp.StreamReader, limit: int) -> bytes:
    """Read a body to its end; raise `BadAnswer` past `limit` bytes."""
    chunks: list[bytes] = []
    size = 0
    while chunk := await stream.readany():
        size += len(chunk)
        if size > limit:
            raise BadAnswer(f"an answer of more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def check_tls(settings: ConsulSettings) -> None:
    """Raise `SettingsError` if an agent is to be asked over TLS with files that cannot be used."""
    if any(url.startswith("https:") for url in settings.agents):
        _tls_context(settings)


def _tls_context(settings: ConsulSettings) -> ssl.SSLContext:
    """Return the TLS context for the agent; raise `SettingsError` for files that cannot be used."""
    if settings.client_key is not None and settings.client_cert is None:
        raise SettingsError(str(settings.client_key), "a client key needs a client certificate")
    file = settings.ca_cert
    try:
        context = ssl.create_default_context(cafile=file)
        if settings.client_cert is not None:
            file = settings.client_cert
            # Without a password here, an encrypted key would have OpenSSL ask at the terminal.
            context.load_cert_chain(settings.client_cert, settings.client_key, password=_no_password)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(str(file), f"cannot be used for TLS to Consul: {error}") from error
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _no_password() -> str:
    raise OSError("the client key is encrypted")
