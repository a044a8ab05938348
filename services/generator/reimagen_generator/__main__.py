"""`python -m reimagen_generator` is `reimagen-generator`."""

from reimagen_generator.cli import app

app(prog_name="reimagen-generator")
