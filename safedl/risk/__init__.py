"""Module 3: how severe, how likely and how visible each attack is, and what to do about it."""
