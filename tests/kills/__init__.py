"""Kill a round at random moments, run the same command again, and compare with a run that nobody disturbed.

`python -m tests.kills --kills 200 --seed 0` prints a table; `make crash` runs it.
"""
