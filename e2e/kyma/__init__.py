"""An emulation of Kyma's operator, and what the Go agent needs to find when it comes back."""
