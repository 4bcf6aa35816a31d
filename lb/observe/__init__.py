"""What a node tells about itself: counters and metrics, logs, the admin server, tables."""
