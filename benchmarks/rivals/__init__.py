"""The memories against what users have today: one file per family, each with `rivalries()`."""
