"""Programs that show how Channels is used; tests run every one of them."""
