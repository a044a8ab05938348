"""The cut-out of a reference: its object without the background, on a plain ground."""
