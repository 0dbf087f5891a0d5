"""`manage.py serve`: first start, one member as a child process, the console in this one."""
