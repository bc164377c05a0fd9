"""`make torture`: the platform on real parts, hurt in every way, and its books checked after it."""
