"""Reads reports: summary, comparison, evidence, page and merge."""
