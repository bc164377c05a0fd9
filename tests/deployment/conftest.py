"""What tests of the deployment may ask for."""
