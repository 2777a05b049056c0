"""Units: what a flow's number is called."""

UNITS = {  # how a flow's number is told -> how tables and axes call it; no torch is imported to know it
    "bpd": "bits/dim",
    "nll": "nats",
    "noisy_nll": "nats of noisy reals",
    "not_a_likelihood": "not a likelihood",
    "free_energy": "nats of free energy",
    "kl": "nats of KL",
}
