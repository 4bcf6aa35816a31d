"""The TLS listeners: connections are passed through, undecrypted, to the service that their client names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lb.deadlines import Deadlines
from lb.observe.stats import Stats
from lb.proxy.balancer import Balancer
from lb.proxy.context import TcpContext
from lb.proxy.intake import HelloIntake
from lb.proxy.listener import StreamListeners
from lb.settings import ProxyProtocolSettings, TlsSettings, UpstreamSettings
from lb.sockets import Place
from lb.wire.proxyprotocol import Ends


class TlsListener(StreamListeners):
    """The TLS listeners of one process."""

    def __init__(
        self,
        balancer: Balancer,
        deadlines: Deadlines,
        settings: TlsSettings,
        upstream: UpstreamSettings,
        proxy_protocol: ProxyProtocolSettings,
        stats: Stats,
        admit: Callable[[], None],
    ) -> None:
        super().__init__(balancer, deadlines, settings.idle_timeout, upstream, proxy_protocol, stats, admit)
        self._settings = settings

    def begin(self, context: TcpContext, place: Place, ends: Ends | None = None) -> asyncio.Protocol:
        """See StreamListeners: the ClientHello comes first."""
        return HelloIntake(context, self.balancer, self._settings, ends)
