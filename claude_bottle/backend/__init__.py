"""Where bottles run. The only rooms that run commands or call an engine's API."""
