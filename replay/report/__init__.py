"""A recording as one HTML file that opens offline: `page`, its `plots`, and `cli`."""
