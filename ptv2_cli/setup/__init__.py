"""Before the first run: schema, first config, state of this machine."""
