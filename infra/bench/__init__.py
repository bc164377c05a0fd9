"""Measures what decides whether customers wait, as ratios to a limit in the same run."""
