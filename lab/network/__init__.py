"""The network around alexnet.py: weights, preprocessing, faster layers, the new layer, and running them."""
