// Package view shows people and cells the state of everything and the reasons for it. The CLI, the API and the web
// pages show the results of its functions, all of which take a View: one Desired, one Observed and the plan.Plan that
// was made of them.
//
// The package decides nothing, does no I/O and reads no clock; the time is the plan's. Several goroutines may read a
// View, which never changes once it is made.
package view
