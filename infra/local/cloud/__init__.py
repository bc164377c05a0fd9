"""Stand-ins for the services that no package can install, each true to its wire format."""
