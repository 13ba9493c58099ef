"""Routing decisions and learning them; knows nothing of Kubernetes or of transports."""
