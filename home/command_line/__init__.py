"""`groundwork`: all commands of this checkout, listed and explained without importing them."""
