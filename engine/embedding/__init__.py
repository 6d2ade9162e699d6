"""Snippets and excerpts -> embeddings: the networks, their weights files, and the embedding of whole documents.

`torch_network`, `network`, `published` and `projection` import torch, which training and GPUs need. The others do not.
"""
