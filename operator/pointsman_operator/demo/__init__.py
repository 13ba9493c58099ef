"""`pointsman demo`: every rule on a fleet of its own, all behind one Envoy, on the same requests."""
