"""An emulation of Kyma's operator, and what the agent in Go needs to find when it comes back."""
