"""Execution of one search."""
