"""Shows what `dgrec.compare` found: `tables` as text, Markdown or JSON, `cli` as a command."""
