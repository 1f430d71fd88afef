"""The cluster: workers of Dask, on other machines or on this one, that take batches of photos through the network."""
