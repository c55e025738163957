"""What sources over the internet share: requests, and a WebSocket on a thread of its own."""
