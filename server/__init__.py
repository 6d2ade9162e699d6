"""Online work: the long-running query server and its clients."""
