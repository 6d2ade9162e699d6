"""The query server: keeps a collection in memory and answers many clients over sockets."""
