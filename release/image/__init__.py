"""What the build of the agent's image runs, in a container: each module runs alone, with the standard library."""
