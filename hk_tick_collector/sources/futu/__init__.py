"""Futu OpenD: everything that knows its protocol, or the futu-api SDK."""
