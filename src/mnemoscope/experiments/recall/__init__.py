"""Cued recall by one memory alone: what it writes, what it holds, and what its settings change."""
