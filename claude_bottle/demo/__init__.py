"""`claude-bottle demo`: the main job on two throwaway SSH servers, shown and checked.

One of the two servers is in the manifest. An agent, here a shell script, works with it through a real bottle and then
tries what it must not be able to do. Every act that is to be refused is done without the bottle first, where it has to
succeed: a refusal of what never works proves nothing.

Rule 1: what is shown is what happened; an act counts by its effect on the server, not by its exit status alone.
Rule 2: nothing stays: all files lie in one temporary folder, all processes are held by descriptor.
"""

from claude_bottle.demo.show import run_demo

__all__ = ["run_demo"]
