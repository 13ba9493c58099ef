"""The policy service: PolicyService over gRPC and what stands behind it."""
