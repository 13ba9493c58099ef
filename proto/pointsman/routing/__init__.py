"""The routing API."""
