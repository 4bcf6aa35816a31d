"""A Consul-compatible catalog and sample services in one process, for trying and for tests."""
