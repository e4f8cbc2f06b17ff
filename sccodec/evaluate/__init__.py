"""MEASURES: rate, quality, speed and memory of written files, beside other codecs."""
