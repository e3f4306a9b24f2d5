"""The page that shows recordings in a browser, and its server."""
