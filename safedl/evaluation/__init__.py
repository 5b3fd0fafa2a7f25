"""What an attack did and what a defense is worth: metrics (with torch) and scores (without)."""
