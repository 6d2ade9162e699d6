"""Makes scan-like pages and recording-like sound from scores in symbols: engrave, perform, play, degrade."""
