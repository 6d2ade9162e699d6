"""Modules that the programs of `bench/` share."""
