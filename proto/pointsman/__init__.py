"""Pointsman's wire protocols."""
