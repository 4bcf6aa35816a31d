"""What is in deploy/ is true: it is checked by the programs that read it, and run where they can be run."""
