"""Methods: what trains."""
