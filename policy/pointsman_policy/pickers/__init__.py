"""Routing rules: one strategy a module, found by its `PICKER`."""
