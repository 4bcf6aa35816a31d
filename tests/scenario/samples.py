"""The sample services' containers, run as the scenario runs them."""

from __future__ import annotations

from dataclasses import dataclass

from tests.scenario.engine import Engine
from tests.scenario.image import SERVICES
from tests.scenario.layout import BACKEND, BACKEND_PORT, ECHO, ECHO_PORT, FRONT, SECURE, SECURE_PORT, VERSION
from tests.support.python_image import python


@dataclass(frozen=True, slots=True)
class Sample:
    """A service: `program` is what runs, `ports` are Docker's options that publish it."""

    service: str
    program: str
    ports: tuple[str, ...]
    labels: tuple[str, ...] = ()

    def options(self) -> list[str]:
        """Return the options of `docker run`."""
        labels = (f"SERVICE_NAME={self.service}", *self.labels)
        return [*self.ports, *(word for label in labels for word in ("--label", label))]


SAMPLES = {
    sample.program: sample
    for sample in (
        Sample(BACKEND, "httpbackend", ("--publish", f"{BACKEND_PORT}:{BACKEND_PORT}")),
        Sample(FRONT, "httpfront", ("--expose", "8080", "-P"), ("SERVICE_TAGS=http",)),
        Sample(ECHO, "tcpfront", ("--expose", str(ECHO_PORT), "-P"), ("SERVICE_TAGS=tcp",)),
        Sample(SECURE, "tlsfront", ("--expose", str(SECURE_PORT), "-P"), ("SERVICE_TAGS=tcp",)),
    )
}


def run_sample(engine: Engine, sample: Sample, *, container: str = "", version: str = VERSION) -> None:
    """Start a container of a service, by default under the program's name."""
    name = container or sample.program
    engine.run(name, sample.options(), [str(python()), "-S", SERVICES, sample.program, "--version", version])
