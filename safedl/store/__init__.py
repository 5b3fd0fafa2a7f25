"""SQLite, the index of all runs. The files under `results/` are the record; the store can be rebuilt from them."""
