"""Programs that measure scorefind, one for each question. Each prints a table, and writes it as JSON with --json."""
