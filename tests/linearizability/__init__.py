"""The checker of histories: it sees what is planted, and agrees with a slower and plainer one."""
