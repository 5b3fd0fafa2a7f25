"""What an attack did and what a defense is worth: metrics (with torch) and scores (without)."""

MOST_COMPARED = 10_000
"""The newest runs that are compared, unless more are asked for: the same on the command line and in the app."""


def only_newest(count: int) -> str:
    """Return what is said where not all runs were compared."""
    return f"only the newest {count:,} runs are compared"
