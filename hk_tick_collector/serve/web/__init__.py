"""The dashboard: static files and a session, in the API's process and at its address."""
