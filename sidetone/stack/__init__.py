"""All roles on one machine: `plan` says which processes, `child` runs one of them, `supervisor` runs them all."""
