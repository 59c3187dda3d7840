// Package view tells people and cells what is, and why: the CLI, the API and pages show its functions of a View.
//
// A View is one Desired, one Observed and the plan.Plan that was made of them. The package decides nothing, does no I/O and
// reads no clock: what time it is, the plan says. A View may be read from several goroutines, and is never changed.
package view
