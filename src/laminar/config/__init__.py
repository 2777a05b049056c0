"""From pages to code."""
