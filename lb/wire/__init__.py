"""The first octets of a connection, without I/O: TLS ClientHello and PROXY protocol (pure)."""
