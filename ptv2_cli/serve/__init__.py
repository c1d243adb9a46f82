"""A server over HTTP that answers rows with finished runs: `ptv2 serve`."""
