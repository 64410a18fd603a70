"""The tiny base model: a small Qwen3 with latent skills for the rule tasks, made from scratch by one recipe."""
