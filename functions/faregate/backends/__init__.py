"""The only code that knows a managed backend, one file each."""
