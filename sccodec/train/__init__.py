"""Training and export: the only room that knows PyTorch."""
