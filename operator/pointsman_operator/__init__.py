"""The router and the operator: everything that talks to the world around the pickers."""
