"""A model behind OpenAI's protocol: requests checked, gathered into batches, answered as they grow."""
