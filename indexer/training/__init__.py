"""How the shipped network is made: corpus, degradation, pairs, losses, training."""
