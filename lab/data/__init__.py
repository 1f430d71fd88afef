"""Photos and their labels: GTSRB in all its copies, photo files, and signs that the lab draws."""
