// Package podlogs reads the logs of a cluster's pods, as kubectl logs does, for debug sessions.
//
// It reads only pods of the workloads and labels that it is asked for: the caller decides which these are. It writes
// whole lines, each after its pod and container, and changes nothing in the cluster. It needs the right to get
// workloads, to list pods (and jobs, for a cronjob), and to get pods/log. How many containers are read at once, and how
// long a line may be, has limits; how much is read in all, the caller limits.
//
// A Reader may be used by several goroutines.
package podlogs
