"""Formats: model files, checked before anything is allocated, and written so that they last."""
