"""A page to ask a model on, and a Space on the Hub that shows it."""
