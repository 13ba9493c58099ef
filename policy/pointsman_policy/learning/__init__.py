"""Learning routing policies in the simulator."""
