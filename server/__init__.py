"""The query server: a collection held in memory, asked over a socket by many clients at once."""
