"""The scenario on three whole hosts: every part of it with real clients, then faults under load; see `__main__`."""
