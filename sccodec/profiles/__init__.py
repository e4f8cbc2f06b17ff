"""WHAT A STREAM IS: models by name, and the layers that each of them has."""
