"""How many examples property tests over mutated files try: few in the suite, more in a longer run."""

import os


def examples(few: int) -> int:
    """`few`, or what CLUTR_EXAMPLES says."""
    return int(os.environ.get("CLUTR_EXAMPLES", few))
