"""Jobs: long work with a record that survives a restart, and events that can be followed."""
