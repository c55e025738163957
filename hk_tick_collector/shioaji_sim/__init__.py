"""A simulated Shioaji gateway, for developers."""
