"""Readers of Hugging Face configs, one file per group of architectures. `hf_config` is the door."""
