"""`python -m olladist.gateway.control`, as the supervisor starts it: settings on stdin."""

from olladist.gateway.control.process import main

main()
