"""The service under faults that come at random, or one at a time."""

# First of all, so that whoever keeps a reference to the clock keeps the wrong one.
from tests.soak.chaos.clock import CLOCK as CLOCK
