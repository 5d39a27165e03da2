"""Compute: worker processes behind a port. The event loop never runs a kernel."""
