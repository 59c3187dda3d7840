// Package node is the part of a cell that runs on each node of its cluster: it evaluates feature flags for the pods of
// that node, which can't reach the loopback of the agent's pod.
//
// The agent's side is a Publisher: it writes what the agent knows of flags into a ConfigMap, and the bundle, compressed
// and split, into others. The node's side is Run: it watches the one ConfigMap, reads the others when the bundle
// changes, verifies the bundle against its digest, and serves OFREP on a unix socket and on loopback. It opens no port,
// has no key of the cell, dials the API server alone, and writes nothing but its own state folder.
//
// A kill is in force as soon as the watch brings it. While the API server is away, and after a restart without it, what
// the node knew last holds (R43), with times that come in the meantime (R40). What is older than what the node has is
// refused (R39).
package node
