"""Before the first run: the config's schema, a first config, the state of this machine."""
