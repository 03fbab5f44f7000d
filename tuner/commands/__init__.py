"""One module per subcommand: wires the edges together."""
