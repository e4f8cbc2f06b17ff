"""SYMBOLS <-> PAYLOADS: exact networks, integer tables and the coder. NumPy and constriction."""
