"""Connections to instances: dialing, and keeping them alive."""
