"""The scenario's sample services: an internal HTTP service, an HTTP front that calls it, a TCP echo.

`python -m lb.demo.samples httpbackend --listen ADDR:PORT` and the like run one of them alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from datetime import UTC, datetime
from typing import Protocol

import aiohttp
from aiohttp import web

from lb.demo.ports import parse_address, parse_target
from lb.demo.resolve import ResolveError, resolve
from lb.errors import ListenError
from lb.settings import Address

VERSION = "v1.0.0"

LINE_LIMIT = 64 << 10
"""The longest line, in bytes, that the echo takes; a client that sends a longer one is disconnected."""

_CALL_TIMEOUT = aiohttp.ClientTimeout(total=5.0)


class Sample(Protocol):
    """A sample service: started, it answers on `address` until it is stopped."""

    @property
    def address(self) -> Address:
        """Where it listens, once it is started."""
        ...

    async def start(self) -> None:
        """Listen; raises `ListenError`."""
        ...

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        ...


class _HttpSample:
    """An HTTP service that answers every request, whatever its method and path, alike."""

    def __init__(self, listen: Address, version: str) -> None:
        self.address = listen
        self.version = version
        self._runner: web.ServerRunner | None = None

    async def start(self) -> None:
        """Listen; raises `ListenError`."""
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, *self.address).start()
        except OSError as error:
            await self.stop()
            raise ListenError(f"sample service {self.address}: {error.strerror or error}") from error
        host, port = self._runner.addresses[0][:2]
        self.address = Address(host, port)

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        raise NotImplementedError


class HttpBackend(_HttpSample):
    """The internal service: `this is httpbackendservice, version: v1.0.0`."""

    def __init__(self, listen: Address, version: str = VERSION) -> None:
        super().__init__(listen, version)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=f"this is httpbackendservice, version: {self.version}\n")


class HttpFront(_HttpSample):
    """The outer service: it calls the backend by its Consul name and quotes the answer.

    `backend` is the name and the port to call. The name is resolved at each request, by asking `dns` for its
    A records or, without `dns`, as the system does. A call that fails is answered with status 502 and the
    reason.
    """

    def __init__(self, listen: Address, backend: Address, dns: Address | None = None, version: str = VERSION) -> None:
        super().__init__(listen, version)
        self.backend = backend
        self.dns = dns
        self._client: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen; raises `ListenError`."""
        self._client = aiohttp.ClientSession(timeout=_CALL_TIMEOUT, auto_decompress=False)
        await super().start()

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        await super().stop()
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        opening = f"this is httpfrontservice, version: {self.version}, calling backendservice"
        try:
            answer = await self._call_backend()
        except (ResolveError, aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or "timed out"
            return web.Response(status=502, text=f"{opening} failed: {reason}\n")
        return web.Response(text=f"{opening} ok, its resp: [{answer}]\n")

    async def _call_backend(self) -> str:
        if self._client is None:
            raise RuntimeError("a request to a sample that is not started")
        host = await resolve(self.backend.host, self.dns)
        url = f"http://{Address(host, self.backend.port)}/"
        async with self._client.get(url, headers={"Host": str(self.backend)}) as response:
            response.raise_for_status()
            return await response.text()


class TcpFront:
    """The TCP echo: a line comes back as `[version]time [line]`, the line with its newline."""

    def __init__(self, listen: Address, version: str = VERSION) -> None:
        self.address = listen
        self.version = version
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Listen; raises `ListenError`."""
        try:
            self._server = await asyncio.start_server(self._serve, *self.address, limit=LINE_LIMIT)
        except OSError as error:
            raise ListenError(f"sample service {self.address}: {error.strerror or error}") from error
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = Address(host, port)

    async def stop(self) -> None:
        """Close all connections and stop listening."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._clients:
            writer.close()
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients.add(writer)
        try:
            # A line beyond the limit raises ValueError: no use in going on then.
            with contextlib.suppress(ConnectionError, ValueError):
                while line := await reader.readline():
                    now = datetime.now(UTC).isoformat(sep=" ")
                    writer.write(f"[{self.version}]{now} [".encode() + line + b"]")
                    await writer.drain()
        finally:
            self._clients.discard(writer)
            writer.close()


async def serve(sample: Sample) -> None:
    """Run a sample until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await sample.start()
    print(f"listening on {sample.address}", flush=True)
    try:
        await stop.wait()
    finally:
        await sample.stop()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lb.demo.samples", description="Run one sample service.")
    services = parser.add_subparsers(dest="service", required=True)
    for name, help_text in (
        ("httpbackend", "answer HTTP with a greeting"),
        ("httpfront", "answer HTTP with what the backend answers"),
        ("tcpfront", "echo lines over TCP"),
    ):
        service = services.add_parser(name, help=help_text)
        service.add_argument("--listen", type=parse_address, required=True, metavar="ADDR:PORT")
        service.add_argument("--version", default=VERSION, help="what the service says of itself")
        if name == "httpfront":
            service.add_argument(
                "--backend",
                type=parse_target,
                default=Address("httpbackend.service.consul", 8081),
                metavar="NAME:PORT",
            )
            service.add_argument(
                "--dns", type=parse_address, metavar="ADDR:PORT", help="default: as the system resolves"
            )
    return parser


def _sample(args: argparse.Namespace) -> Sample:
    if args.service == "httpbackend":
        return HttpBackend(args.listen, args.version)
    if args.service == "httpfront":
        return HttpFront(args.listen, args.backend, args.dns, args.version)
    return TcpFront(args.listen, args.version)


def main() -> int:
    """Run the sample that the command line names; return the exit status."""
    sample = _sample(_parser().parse_args())
    try:
        asyncio.run(serve(sample))
    except ListenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
