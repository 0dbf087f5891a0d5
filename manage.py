#!/usr/bin/env python3
"""Keydeck's one command on the console side: `manage.py serve`, `manage.py migrate`, ..."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "console.settings")
    # Settings are read before a command sees its options, and where the data lives decides
    # what they say: `serve --data-dir X` has to be heard here.
    for position, word in enumerate(sys.argv):
        if word == "--data-dir" and position + 1 < len(sys.argv):
            os.environ["KEYDECK_DATA_DIR"] = sys.argv[position + 1]
        elif word.startswith("--data-dir="):
            os.environ["KEYDECK_DATA_DIR"] = word.partition("=")[2]
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
