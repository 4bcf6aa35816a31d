"""Where bytes move: listeners, HTTP sessions, TCP sessions."""
