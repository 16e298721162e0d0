"""thinwire."""
