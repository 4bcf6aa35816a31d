"""Which recursors a foreign name is asked of: rules by suffix, the longest wins. No I/O."""

from __future__ import annotations

from collections.abc import Container, Iterable

from dnsserver.wire import encode_name, name_from_text, name_to_text, split_name
from lb.settings import Address, ForwardRule

Labels = tuple[bytes, ...]


class ForwardRules:
    """Recursors by suffix; `default` are for all other names.

    Rules of the same suffix add up, in their order. Those of `never` are not asked; a suffix that is left without
    anyone keeps its names from all others.
    """

    def __init__(
        self, rules: Iterable[ForwardRule], default: Iterable[Address], never: Container[Address] = ()
    ) -> None:
        found: dict[Labels, dict[Address, None]] = {}
        for rule in rules:
            recursors = found.setdefault(tuple(split_name(name_from_text(rule.suffix))), {})
            if rule.recursor not in never:
                recursors[rule.recursor] = None
        self._by_suffix = {suffix: tuple(recursors) for suffix, recursors in found.items()}
        self._longest = max(map(len, found), default=0)
        self._default = tuple(recursor for recursor in default if recursor not in never)

    def __str__(self) -> str:
        rules = (
            f"{name_to_text(encode_name(suffix)).rstrip('.')}={recursor}"
            for suffix, recursors in self._by_suffix.items()
            for recursor in recursors
        )
        return ", ".join((*map(str, self._default), *rules))

    @property
    def recursors(self) -> tuple[Address, ...]:
        """All that may be asked, each once."""
        return tuple(dict.fromkeys((*self._default, *(each for some in self._by_suffix.values() for each in some))))

    def zone_of(self, recursor: Address) -> bytes:
        """Return the wire name of what a recursor is there for: the root, or the first suffix that it is named for."""
        if recursor not in self._default:
            for suffix, recursors in self._by_suffix.items():
                if recursor in recursors:
                    return encode_name(suffix)
        return encode_name(())

    def choose(self, labels: Labels) -> tuple[Address, ...]:
        """Return the recursors for a name, whose labels are lower case; none if it is not to be asked."""
        for length in range(min(self._longest, len(labels)), 0, -1):
            recursors = self._by_suffix.get(labels[-length:])
            if recursors is not None:
                return recursors
        return self._default
