"""A simulated dxLink endpoint, with TastyTrade's token interface, for developers."""
