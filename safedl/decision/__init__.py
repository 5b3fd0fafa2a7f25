"""Module 6: what risk is left, what is still to be done, and whether the model may ship."""
