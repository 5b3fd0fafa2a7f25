"""Suspects as they came: is this data poisoned, is this model? No attack is simulated, no truth is known."""
