"""Refinement of latents by gradients: the exported model once more, in PyTorch.

Only the encoder's highest efforts come here; decoding never does, and never needs PyTorch.
"""
