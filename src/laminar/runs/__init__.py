"""A run, from config to numbers."""
