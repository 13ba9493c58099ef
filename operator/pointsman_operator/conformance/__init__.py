"""Checks any endpoint picker against the Endpoint Picker Protocol v1.0.

The rules are a table; each is a conversation as a gateway holds it and a check of the answers.
"""
