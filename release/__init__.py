"""What a release consists of, made from config/ and pyproject.toml: `python -m release --help`."""
