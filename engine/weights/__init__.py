"""The shipped networks: safetensors files, each with a model card beside it."""
