"""Experiments on geometric and associative memory of graphs, one file for each family."""
