"""What stands behind the lab's pages: rooms for data, for the network and for training, on one ground floor."""
