"""Command-line tools beside the server, with the names, flags and outputs of etcd's own
(spec/tools.md), so that scripts need not care which of the two they talk to.

    kvutl.py       offline: opens files, needs no server
    printing.py    tables, sizes and the other forms of output
"""
