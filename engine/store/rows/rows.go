// Package rows has what the databases that store observations have in common: the encoding of values as rows, which of
// many reports may be stored (compare-and-swap), which offers may be made under their caps, and how callers share
// commits.
//
// The package knows no database and no SQL, decides nothing about releases, and stores nothing but the reports in a
// Queue that are not written yet. Functions are pure unless they say otherwise; Queue and Sequences may be used by many
// goroutines.
package rows
