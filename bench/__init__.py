"""One file a question; each prints a table, and the same as JSON with --json."""
