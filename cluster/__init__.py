"""A collection in shards on several machines, which Ray connects: `storage.py` is where to begin."""
