"""The HTTP edge: bytes in, bytes out, one module for each surface."""
