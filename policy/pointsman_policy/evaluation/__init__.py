"""Comparing pickers: scenarios, paired statistics, reports."""
