"""The trail in the browser, without a script."""
