"""Interop: runs to and from what other libraries read."""
