"""claude-bottle: run a coding agent in a sealed bottle whose only door is its gate.

This file stays empty of imports: the gate process imports the package too, and starts in milliseconds.
"""

__version__ = "0.1.0"
