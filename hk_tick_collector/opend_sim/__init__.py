"""An OpenD that any futu-api client can connect to: synthetic market, faults, truth file."""
