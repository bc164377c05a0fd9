"""The demo: the whole loop as a customer lives it."""
