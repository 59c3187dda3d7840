// Package node is the part of a cell that runs on each node of its cluster: it evaluates feature flags for the pods of
// that node, and grants their operations beside maintenances. Those pods can't reach the loopback of the agent's pod.
//
// The agent's side is a Publisher: it writes what the agent knows of flags into a ConfigMap, and the bundle, compressed
// and split, into others. The node's side is Run: it watches the one ConfigMap, reads the others when the bundle
// changes, verifies the bundle against its digest, and serves OFREP on a unix socket and on loopback. It opens no port,
// has no key of the cell, dials the API server alone, and writes nothing but its own state folder and one Lease.
//
// Of maintenances, the agent's side is a Board: it writes what holds into another ConfigMap, and reads the Leases, in
// which each node part says that it is there, by which published state it grants, and what is under way.
// cells/maintenance has the rules by which no operation starts on any node after a drain was through
// (maintenance.Nodes). A node part that could not say so for maintenance.NodeConfirmed grants nothing, and answers that
// it does not know.
//
// Images passes pulls of images on to the agent, if asked to, and writes containerd's list of mirrors. What programs on
// the node measure is passed on as well, unread and within limits. For both it dials the agent too (AgentWay).
//
// A kill is in force as soon as the watch brings it. While the API server is away, and after a restart without it, what
// the node knew last holds (R43), with times that come in the meantime (R40). What is older than what the node has is
// refused (R39).
package node
