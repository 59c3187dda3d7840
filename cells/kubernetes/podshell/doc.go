// Package podshell runs shells in containers of a cluster's pods, as kubectl exec does, for debug sessions.
//
// A shell runs in the one pod that the cell's owner looked at: Run compares its UID before the shell begins and again
// before anything passes, so a pod that was made anew under the same name gets no session. What a shell starts has the
// session's request in its environment. A second command waits in the container from before the shell begins, and kills
// all of that when the session ends, also when the agent or its connection is gone: the end of its input is the word.
// Run returns soon after its context ended, whatever the pod, its node and the API server do, and says if something may
// go on. What clears its environment and leaves the shell's session of processes is not found.
//
// All that comes from a pod is a stranger's. The package needs the rights to get pods, and to get and create pods/exec.
// It decides nothing and records nothing. All functions may be called at once.
package podshell
