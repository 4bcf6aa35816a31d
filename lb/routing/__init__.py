"""Snapshot -> RoutingTable: which host, path or port leads to which service (pure)."""
