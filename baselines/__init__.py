"""Systems that llink is compared with: what they are, not how they are trained."""
