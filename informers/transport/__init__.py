"""HTTP and TLS over pooled connections. Knows neither Kubernetes nor Compass."""
