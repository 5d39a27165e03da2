"""The ring: which node owns a key, decided by arithmetic alone."""
