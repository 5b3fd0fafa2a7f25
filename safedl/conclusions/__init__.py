"""From what the store has measured to a decision: risk, comparison, report."""
