"""The command line: thin commands over the clients, and the server itself."""
