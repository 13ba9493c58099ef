"""The parts of Envoy's protocols that the router speaks."""
