"""`python -m olladist.gateway.edge NUMBER`, started by the supervisor with the settings on stdin."""

import sys

from olladist.gateway.edge.process import main

main(int(sys.argv[1]))
