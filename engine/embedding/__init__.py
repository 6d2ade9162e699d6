"""Snippets and excerpts -> embeddings: the networks, their weights files, and the embedding of whole documents.

`encoder`, `network`, `published` and `projection` import torch; `documents` does not.
"""
