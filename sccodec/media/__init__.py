"""Files to arrays and back: still pictures, video, feature tensors."""
