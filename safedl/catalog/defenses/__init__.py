"""Entries of the catalog, by category."""
