// Package selfupdate replaces a cell's agent by the version that a release names, and puts the old one back if the new
// one does not report.
//
// The agent does not run alone: beside it runs its guard, another process of this program. A step changes the image of
// one of the two, and the other, which stays as it is, watches: if what is new does not say in time that it works, the
// watcher puts the old image back. An agent works once the control plane took a report of it. A guard works once it
// runs.
//
// What always holds:
//
//   - The agent is replaced before anything of the release is applied. So a release may count on the agent that it
//     names, and an agent that does not work costs the product nothing.
//   - The image of the agent is not changed before its guard said that it watches.
//   - A release names a version, never a registry: the repository of the image is the one that the cell's owner
//     installed.
//   - A rollback of the agent's own leaves the agent as it is, since that one works.
//
// Both know of a step by one file in the state folder, the record, which both change under a lock. The decisions are
// pure functions of it: Record.watch and Record.prove. The package does not know what a cluster is: a Workload changes
// images. A Part's methods may be called at once.
package selfupdate
