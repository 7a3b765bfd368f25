"""Passages read once: found by their vectors, and asked through their kept slots."""
