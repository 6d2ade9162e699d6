"""Offline work: adds files to a collection, trains the embedding network, makes the demo."""
