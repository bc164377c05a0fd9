"""Cloud Tasks workers, one file each."""
