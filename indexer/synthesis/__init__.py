"""Scores in symbols -> pages as scanners deliver them and sound as microphones do: engrave, perform, play, degrade."""
