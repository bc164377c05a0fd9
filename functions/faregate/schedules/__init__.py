"""Cron functions, one file each."""
