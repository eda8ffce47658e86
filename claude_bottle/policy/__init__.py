"""Decide, and say by which rule. Pure: no file, no socket, no clock."""
