// Package scaffold writes the beginnings of a DNA: parley plugin new.
//
//	scaffold.go  Write: the files, and what goes when one of them can't be written
//	module.go    whether a go.mod is needed, and what stands in it
//	templates/   the files themselves
package scaffold
