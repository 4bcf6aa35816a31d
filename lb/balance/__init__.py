"""Which endpoint is next: nginx's rules (pure; the clock is an argument)."""
