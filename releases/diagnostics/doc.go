// Package diagnostics defines the commands and logs that a release declares for debugging its cells: diagnostics.yaml.
// With the scope read, a person who debugs a cell runs these commands and nothing else; with the scope logs, they read
// these logs, and those of the release's workloads.
//
// A command is a program with its arguments, and no shell ever reads it. What the person may put into it are arguments
// with types: no value begins with a dash, has a space or a character that means something to a shell. So the cell's
// owner can read, before they permit it, all that can happen.
//
// The package is pure: it runs nothing. Everything in it may be called at once.
package diagnostics
