"""The policy API."""
