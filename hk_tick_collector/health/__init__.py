"""Watchdog, health lines and service-manager notification."""
