// Package kubernetes applies a cell's manifests to a Kubernetes cluster.
//
// Apply is server-side and in stages: what other objects need comes first, and custom resources follow their
// definition. Within a stage objects are applied at once. Which objects the releases of the cell have put into the
// cluster is in a file, the inventory, which is durable before the first write. So an apply that was interrupted
// anywhere is completed by another, and no object is forgotten.
//
// What always holds:
//
//   - Nothing is removed before the new release was healthy for as long as the agent asks, and then only what the
//     inventory has, with the UID that it had. Labels alone never remove anything.
//   - Namespaces, definitions of custom resources and persistent volumes are removed only if release.yaml says so. A
//     rollback keeps what may hold data, and what was there before the release came.
//   - Of several agents in a namespace one acts: the one that holds the Lease. The others say who it is.
//   - No object is deleted to be created anew. A field that somebody else owns is an error that names the field and its
//     owner, unless release.yaml takes that program's fields over.
//   - Drift is a difference in fields that the agent owns, compared with what the API server made of them when they
//     were applied. So defaults, quantities and webhooks are no drift. If somebody keeps changing an object back, it is
//     left alone after a few heals, and this is said.
//
// The package decides nothing about releases: it never rolls back by itself. It listens on nothing, and dials only the
// API server. The decisions are pure functions over values: readObjects, batches, planRemoval, judgeHeal, assess,
// leaseRecord.mayTake.
//
// Compare says what an apply would change, and writes nothing: not to the cluster, nor to the inventory.
//
// Calls on one Target must not overlap (cells.Target), but for Acting. Its watches, and what renews the Lease, are
// goroutines of their own, which end with Close; view and lease guard what they share with the calls.
package kubernetes
