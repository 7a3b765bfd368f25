"""Stage B examples made from parallel pairs: by a language model that reads the target side, or by rule."""
