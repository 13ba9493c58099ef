"""The control plane: admission of RouterPolicies, and a status that says what routers really run."""
