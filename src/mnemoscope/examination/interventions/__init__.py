"""Interventions: pure functions from what a site produced, or has seen, to what the rest of the network sees.

May import: `subject`.
"""
