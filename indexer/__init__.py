"""Offline work: files in, collection out; the training of the embedding; the demo."""
