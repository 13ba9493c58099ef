"""Trained policies as they run in the router: without torch."""
