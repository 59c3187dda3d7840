// Package plan decides which release each channel and each cell gets.
//
// Make is the decision: a function of what the repository says at one commit (Desired), what was observed (Observed) and now.
// The same inputs give the same Plan, byte for byte. The loop, the API, plan, why, simulate and the golden tests all show that
// one value. Desired comes from Build and History, which fold commits; Observed comes from Arrival.Fold, which folds reports,
// and from Carry, which applies a plan. Drafts turns a plan into commits.
//
// The package does no I/O beyond the fs.FS that it is given, reads no clock, and starts no goroutine.
//
// A Plan and a Desired may be read from several goroutines: nothing in them is changed after Make and Build returned. An
// Observed and a History belong to their holder.
package plan
