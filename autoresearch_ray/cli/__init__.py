"""The command line: composes the rooms, prints, and turns errors into sentences and exit codes. Nothing imports it."""
