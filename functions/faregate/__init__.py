"""Prepaid billing for compute and AI platforms."""
