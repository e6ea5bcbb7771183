// Package transport keeps Noise sessions over TCP between nodes that know one
// another by their Ed25519 agent keys.
package transport
