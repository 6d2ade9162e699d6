"""The shipped networks: safetensors files of weights, each with a model card beside it."""
