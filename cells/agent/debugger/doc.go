// Package debugger is a cell's end of debug sessions: it dials the control plane once the cell's owner permitted a
// session, serves SSH to the person who asked for it, runs what the permission covers, and records what passes.
//
// Nothing listens: the connection is the agent's own, and whoever is at its other end is a stranger until the key of
// the request is proved (D4, D5). A session is begun in the debug folder before its first channel opens (D1, D3). It
// ends when the owner stops it, when its time is over by the monotonic clock, when the person leaves, when it can't be
// recorded, and with the agent: within a second, all processes that it started are dead and its connection is closed,
// whatever the control plane does (D2). Output leaves the cell, and input reaches a command, only after it was written
// to the record (D6).
//
// SSH serves session channels, one at a time, and nothing else: no forwarding, no agent, no X11, no subsystem; the
// person's environment is refused.
//
// The package decides nothing about requests, and asks the owner only through the debug folder. A Debugger's methods
// may be called from any goroutine.
package debugger
