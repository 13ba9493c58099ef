"""Which experts there are."""
