"""All of the cloud on one machine."""
