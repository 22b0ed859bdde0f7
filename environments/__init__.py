"""Every environment that Perdure is held to, checked by `perdure check-env` in fresh processes: `make environments`."""
