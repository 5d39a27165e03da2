"""The use cases: what the platform can do, without HTTP."""
