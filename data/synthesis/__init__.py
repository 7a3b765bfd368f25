"""Stage B examples made from parallel pairs: by a language model that reads the English side, or by rule."""
