// Package agent is the program that runs in a cell. It takes the cell's assignment, has its release fetched, verified
// and rendered, applies it to a cells.Target, watches health, heals drift and reports. It rolls back to the last good
// assignment by itself, also offline.
//
// The package itself decides. Type state holds all that decisions depend on. It is pure and owned by the loop, which
// asks it for the next step, has the step carried out and passes the result back. The packages around it know nothing
// of the loop:
//
//	plane       the connection to the control plane: desired state comes in, reports go out
//	content     fetching by digest, and the cache of releases on disk
//	render      from a release to manifests, in a child process
//	flagserver  flags in force, served on this machine
//	clock       the control plane's time (R40)
//	disk        durable files
//
// Whoever starts the agent chooses the cells.Target, such as cells/directory; this package does not distinguish
// targets. state.ownerAllows (consent.go) judges whether anything keeps the cell from beginning: today the owner's
// decisions. Package content verifies bytes.
//
// The agent listens only on loopback or a unix socket, for the product's requests for flags, and only if configured. It
// dials only its control plane, and runs only bytes whose digest its assignment names. It never accepts an assignment
// older than one that it accepted before (R2), never begins one before the control plane knows that it was accepted
// (R14), never retries a failed one under the same key (R21), and never rolls back across a forward-only release (R20).
// Against the owner's decisions in owner.yaml nothing begins but the rollback to the last good assignment (R18).
//
// The agent may be killed at any instant and resumes at its next start: a journal of its progress is durable before
// each step begins. It reports "healthy" only after it has seen health hold in this process. Features that an apply may
// remove count as gone before its first write, and features that it adds count only after health held (R38).
//
// After an apply, health must hold within HealthTimeout and then stay good for HealthyFor. If it does not, the agent
// rolls back. Later it does not roll back by itself: it reports unhealthy and heals drift, and the engine decides.
//
// Concurrency: one goroutine (loop) owns the state. One step at a time runs beside it, so two applies never overlap.
// The other goroutines are those of plane, once the cell is registered, those of flagserver, and one that watches
// owner.yaml; they send to the loop over channels. All of them end before Run returns. Run is called once; LoadOwner,
// ChangeOwner and LoadOffered may be called at any time, from other processes too.
package agent
