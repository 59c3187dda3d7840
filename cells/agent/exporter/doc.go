// Package exporter keeps what leaves a cell beside its reports, and sends it: metrics and events of the cell's
// programs, as far as vendor and owner agreed to them (package releases/export).
//
// Once a minute what came in becomes a file of JSON lines that the owner can read, in the folder "export" of the state
// folder. It is held for a while, then compressed, and sent in order, each file once: the control plane acknowledges
// what it has. Nothing else ever leaves: a line that leaves is a line of such a file. What is removed before it was
// sent, by the owner or for want of room, leaves a gap that the next file tells of. When the owner's word is off, all
// that waits is removed.
//
// The package decides nothing about names and values; cells/telemetry does. An Exporter may be used by many goroutines.
// List, Read and Drop work on the folder beside a running agent, or without one.
package exporter
