"""What is run as a program is not imported for doctests."""

collect_ignore_glob = ["scripts/*"]
