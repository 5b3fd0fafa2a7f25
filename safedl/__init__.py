"""Safe-DL: which attacks hurt an image classifier, which defenses help, what they cost, may it ship."""

__version__ = "0.1.0"
