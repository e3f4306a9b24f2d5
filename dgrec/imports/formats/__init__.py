"""The formats, a file for each. Importing one registers it."""
