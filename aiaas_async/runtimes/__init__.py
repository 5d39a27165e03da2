"""Runtimes: what loads an artifact and runs it, inside a worker."""
