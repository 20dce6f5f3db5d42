"""What `ftrl compare` does unless it is told otherwise."""

BUDGET, QUICK_BUDGET = 36, 13  # settings that each contender tries
BITS = 22
