"""The protocols that requests and outcomes arrive by."""
