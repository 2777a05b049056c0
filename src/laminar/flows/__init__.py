"""The library: what a flow is, in torch alone."""
