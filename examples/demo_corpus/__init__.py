"""The grammar that the demo corpus is made from: two-sided words, sentence plans, and what each sentence says."""
