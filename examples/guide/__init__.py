"""The snippets of the guide, each of them complete."""
