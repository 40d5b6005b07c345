"""`python -m olladist.gateway.edge NUMBER DESCRIPTOR...`, started by the supervisor with the settings on stdin and its sockets."""

import sys

from olladist.gateway.edge.process import main

main(int(sys.argv[1]), [int(word) for word in sys.argv[2:]])
