"""How a flow is trained."""
