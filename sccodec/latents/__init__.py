"""LATENTS <-> SYMBOLS: the prior that both directions drive, quantisation, rate search."""
