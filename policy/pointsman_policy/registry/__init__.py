"""Versions of learned policies: their files, their digests, where each of them stands."""
