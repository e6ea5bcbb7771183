// Package controlpb is generated from parley/control/v1/control.proto by
// .ci/generate. Only node/control uses it; another program that wants to call a
// node may generate its own code, in any language, from the same file.
package controlpb
