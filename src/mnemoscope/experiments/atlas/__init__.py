"""The Atlas tuning guide here: its configuration, key by key, the recipes that it makes, and its YAML files.

May live here: what the guide's parameters mean and what is made of them. May import: what experiments may.
"""
