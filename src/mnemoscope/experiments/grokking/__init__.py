"""Grokking: tables that a network learns by heart in full batches, and whether it ever finds the rule behind them."""
