"""Policies of division, assignment and scheduling: pure, they know no loop, no node, no array."""
