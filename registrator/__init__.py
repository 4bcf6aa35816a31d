"""Containers of a Docker engine as services of the Consul agent beside it."""
