"""dxLink, dxFeed's WebSocket protocol, as TastyTrade and others serve it."""
