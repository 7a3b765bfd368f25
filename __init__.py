"""llink: languages are modalities (arXiv 2510.27254)."""
