"""Bytes become values here, once, and values bytes."""
