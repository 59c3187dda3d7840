// Package maintenance decides when a cell's product refuses operations, and for how long. An update that changes a
// component marked `maintenance: true` must not meet operations under way, such as the start of a workspace: they are
// refused first, those under way are waited for, and only then is the component replaced.
//
//	announced   begins at Begins; nothing is refused yet
//	draining    new operations are refused, those under way finish
//	drained     none is under way: the update may be applied
//	(none)      left, once the update is healthy; or Until has passed
//
// Record is what the agent journals. Advance takes it from phase to phase by what the agent does (Facts), by the
// operations under way, and by the channel's Policy. Changes says whether an update takes a maintenance at all.
// Operations is the table of the leases that the product holds for its operations. State is what the product is told.
// Nodes is what the agent knows of those who grant operations elsewhere: the node parts of a cluster.
//
// What always holds: whenever operations are refused there is an Until, at most Policy.Maximum ahead, which was durable
// before the first refusal, and at which refusing ends by itself though the agent is dead. Only Advance moves it, while
// the update is under way, with a reason, and never beyond Record.Limit. Operations that were granted before the
// refusals are under way until their holder ends them or stays silent for LeaseTime; none is granted after Quiet
// reported that none is under way. A Policy of Force, and a rollback, go on without operations that outlast
// Policy.Drain; such operations are counted and named.
//
// The package is pure: it does no I/O and reads no clock. Records are immutable. Operations is for one goroutine at a
// time; cells/maintenance/server guards one with a mutex and serves it, and cells/maintenance/client asks.
package maintenance
