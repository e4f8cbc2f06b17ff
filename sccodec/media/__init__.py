"""PIXELS: files to arrays and back, with metadata, alpha and 16 bits."""
