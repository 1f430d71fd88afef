"""Training: what is kept, how the epochs run, and what the results are."""
