"""Envoy's v3 protocols, cut down; generated."""
