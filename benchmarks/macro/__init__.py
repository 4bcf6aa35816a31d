"""consul-edge and its peers side by side: same origin, same client, one core for what is measured, but for workers."""
