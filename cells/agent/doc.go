// Package agent is what runs in a cell: it takes the cell's assignment, has its release fetched, verified and rendered,
// applies it to a cells.Target, watches health, heals drift and reports; or goes back to the last assignment that was good,
// by itself and offline.
//
// The package itself decides. state is the cell's whole mind: pure, with one owner, the loop, which asks it for the next
// step, has that done, and folds in what came of it. What is around it are rooms with packages of their own, which know
// nothing of the loop:
//
//	plane       speaks with the control plane: what is desired comes in, reports go out
//	content     what a digest names: how it is asked for, and the releases on disk
//	render      from a release to manifests, in a child process
//	flagserver  has flags in force, and answers for them on this machine
//	clock       the control plane's time (R40)
//	disk        durable files
//
// A place to apply to is a cells.Target, such as cells/directory; whoever starts the agent chooses it, and nothing here
// knows one from another. What keeps a cell from beginning something is judged in state.allowed (consent.go): the owner's
// decisions, and maintenance when there is such a thing. Whether bytes are believed is decided in content.
//
// It listens on nothing but, if that is asked for, loopback or a unix socket, where the product asks for flags; it dials
// nobody but its control plane, and runs only bytes whose digest its assignment names. It never accepts an assignment older
// than one that it accepted before (R2), never begins one before the control plane knows that it was accepted (R14), never
// tries a failed one again under the same key (R21), and never goes back across a forward-only release (R20). Nothing begins
// against what the cell's owner decided in owner.yaml but the return to what was last good (R18).
//
// How far it is stands in a journal that is durable before the next step begins, so it may be killed at any instant: started
// again, it resumes. It says "healthy" only after it has seen health hold in this process. What an apply may make untrue of
// flags is said before its first write, and what it makes true after health held (R38).
//
// What was applied must become healthy within HealthTimeout and then stay so for HealthyFor: the watch. If it does not, the
// agent goes back. After the watch it does not go back by itself: it reports unhealthy, and heals drift; what to do is then
// the engine's decision.
//
// Concurrency: one goroutine (loop) owns the state; one step at a time runs beside it, so two applies never overlap. Beside
// them are plane's goroutines, once the cell is registered, flagserver's, and one that watches owner.yaml. They hand the loop
// what they have over channels. All of them end before Run returns.
package agent
