"""Shanghai and Shenzhen stocks."""
