// Package rows is what the databases that keep observations have in common: how values become rows, which of many
// reports may be kept (compare-and-swap), which offers may be made under their caps, and how callers share commits.
//
// It knows no database and no SQL, decides nothing about releases, and keeps nothing but what a Queue holds until it is
// written. Functions are pure, unless they say otherwise; Queue and Sequences may be used by many goroutines.
package rows
