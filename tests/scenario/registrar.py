"""Who tells Consul of containers, on each host."""

from __future__ import annotations

from tests.scenario.cluster import Server
from tests.scenario.engine import Engine
from tests.scenario.host import CommandError


class Registrar:
    """Containers of a host become services of the host's own Consul agent, and leave it when they end."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server

    def sync(self) -> None:
        """Register what runs and is published, deregister what is not."""
        wanted = {}
        for name in self._engine.call("ps", "--format", "{{.Names}}").split():
            container = self._engine.inspect(name)
            labels = container["Config"]["Labels"]
            for exposed, bound in container["NetworkSettings"]["Ports"].items():
                if bound and "SERVICE_NAME" in labels:
                    identity = f"{self._engine.host.name}:{name}:{exposed.partition('/')[0]}"
                    wanted[identity] = {
                        "ID": identity,
                        "Name": labels["SERVICE_NAME"],
                        "Tags": [tag for tag in labels.get("SERVICE_TAGS", "").split(",") if tag],
                        "Port": int(bound[0]["HostPort"]),
                        "Address": self._engine.host.address,
                        "Meta": {
                            key.removeprefix("SERVICE_").lower(): value
                            for key, value in labels.items()
                            if key.startswith("SERVICE_") and key not in ("SERVICE_NAME", "SERVICE_TAGS")
                        },
                    }
        try:
            known = self._server.get("/v1/agent/services")
            for identity in known.keys() - wanted.keys():
                self._server.put(f"/v1/agent/service/deregister/{identity}")
            for identity, service in wanted.items():
                if identity not in known:
                    self._server.put("/v1/agent/service/register", service)
        except CommandError:
            pass
