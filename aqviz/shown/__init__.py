"""One view a module: the state that its link holds, and what is shown of it, as plain values."""
