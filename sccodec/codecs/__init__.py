"""THE PATH: encode above decode, step for step; one file per modality."""
