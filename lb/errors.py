"""The exception tree.

::

    EdgeError                   everything that this program raises on purpose
    ├── SettingsError           a flag or environment variable is wrong; names it and the reason
    ├── CatalogError            Consul could not be asked, or its answer is of no use
    │   ├── AgentUnreachable    no answer: refused, reset, timed out, bad TLS
    │   ├── AgentRefused        an answer with an error status; `.status` holds it
    │   └── BadAnswer           an answer that is not what Consul's API promises
    ├── InstanceError           one instance of the catalog cannot be used (others can)
    ├── OptionError             one tag or meta key cannot be used (its default is)
    ├── ProtocolError           a peer broke HTTP; `.status` is what a client is told
    ├── WireError               a connection begins with no usable ClientHello or PROXY header; `.kind` says how
    ├── UpstreamError           an attempt on an instance failed; `.status` is 502 to 504
    ├── ListenError             an address cannot be listened on
    ├── EngineError             Docker could not be asked, or its answer is of no use
    ├── InspectError            what Docker says of a container is not what its API promises
    └── ReportError             what a worker says it has counted is no report

An error is raised where it is understood and handled where something can be done: a bad instance
in `catalog.decode`'s caller, a bad option in `routing`, a bad head in the session.
"""

from __future__ import annotations


class EdgeError(Exception):
    """Root of all errors raised on purpose."""


class SettingsError(EdgeError):
    """A setting is wrong.

    `name` is the flag or variable as the user wrote it, `reason` a clause that follows a colon.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class CatalogError(EdgeError):
    """The catalog could not be read."""


class AgentUnreachable(CatalogError):
    """No usable answer came from the agent: refused, reset, timed out or TLS failed."""


class AgentRefused(CatalogError):
    """The agent answered with an error status, kept in `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class BadAnswer(CatalogError):
    """The agent answered 200, but not in the form that Consul's API promises."""


class InstanceError(EdgeError):
    """One catalog entry cannot be used; the text is the reason."""


class OptionError(EdgeError):
    """One tag or meta key cannot be used; the text is the reason."""


class ProtocolError(EdgeError):
    """A peer broke the rules of HTTP.

    `status` is the reply a client gets for it (RFC 9110 section 15); for a broken upstream it is 502.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class WireError(EdgeError):
    """A connection does not begin as it must: with a TLS ClientHello, or with a PROXY protocol header.

    `kind` is a bounded label for metrics: `not_tls`, `hello_too_large`, `bad_hello`, `bad_server_name`,
    `no_server_name`, `unknown_server_name`; `no_proxy_header`, `bad_proxy_header`.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class UpstreamError(EdgeError):
    """An attempt on an instance failed.

    `status` is what the client is told when no attempt is left (502 to 504); `kind` is a bounded
    label for metrics: `connect_refused`, `connect_timeout`, `connect_error`, `send_timeout`, `read_timeout`,
    `closed`, `reset`, `bad_head`; `no_instance` (503) and `no_live_upstream` when nobody could be asked;
    `descriptors` (503) when this process has none left.
    """

    def __init__(self, kind: str, reason: str, status: int = 502) -> None:
        super().__init__(reason)
        self.kind = kind
        self.status = status


class ListenError(EdgeError):
    """An address cannot be listened on; the text names it and the reason."""


class EngineError(EdgeError):
    """The Docker engine does not answer, or not as its API promises; the text names its address and the reason."""


class InspectError(EdgeError):
    """What Docker says of one container cannot be used; the text names the field and the reason."""


class ReportError(EdgeError):
    """What a worker says it has counted cannot be taken; the text names the value and the reason."""
