"""Consul -> Snapshot: asking the agent, following it, keeping the last good answer."""
