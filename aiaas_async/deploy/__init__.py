"""Deployment: where a version runs, whole, replicated or split, and how the pieces work as one."""
