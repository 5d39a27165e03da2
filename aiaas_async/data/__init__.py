"""Data sets: key-value items in column files, sharded over the nodes by their keys."""
