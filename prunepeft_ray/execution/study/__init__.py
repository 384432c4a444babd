"""Execution of a study under Ray Tune."""
