"""The benchmark: the gate and the bottle beside what people would use instead, on one machine, in turns.

Rule 1: every way is measured once per round and the order changes from round to round, so that what else the machine
does falls on all of them; what is told is the median over the rounds.
Rule 2: what is measured is what runs: the gate is started as the backend starts it, with its audit log on, and bottles
are started by the command line.
"""
