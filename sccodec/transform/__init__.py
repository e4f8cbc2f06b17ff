"""PIXELS <-> LATENTS: the networks, as ONNX graphs. Float: pixels may differ by one of 255."""
