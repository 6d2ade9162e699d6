"""Search in the order it runs: plan, shortlist (votes, fingerprints), align, rank, judge, locate; and its answer."""
