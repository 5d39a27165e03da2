"""The registry: which models and versions exist, kept in memory and on disk as one."""
