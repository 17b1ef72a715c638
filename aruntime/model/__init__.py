"""From a Hugging Face folder to logits: config, weights, decoder, cache tensors; tokenizer and chat template."""
