// Package plugin runs handler processes.
package plugin
