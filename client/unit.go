package client

import _ "embed"

// MountUnit is a systemd unit with which a guest brings back the mounts of its
// packages when it starts.
//
//go:embed stork-mount.service
var MountUnit string
