"""The HTTP gateway: the operations of the socket for browsers and programs that speak JSON, and the page."""
