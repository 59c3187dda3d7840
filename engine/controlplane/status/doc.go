// Package status sums an engine.View up for people and programs: where channels, cells and flags are, and who may come in.
//
// Everything here is a pure function of one View, which is immutable: nothing is read, kept or decided. What it returns is
// what the HTTP API answers and what the command prints. Functions may be called from any goroutine; a FlagIndex is for one.
package status
