// Package debugfolder keeps what a cell knows of access for debugging, in the folder "debug" of the agent's state
// folder: a folder for each request, with the owner's answer, what became of it, and the session's record.
//
// The agent and the owner's commands share the folder. Neither needs the other to run: what the owner decides is
// durable when the call returns, and the agent reads it before a session begins and several times a second while one
// lasts. A request is answered once, and a permission is used once (D3), also across crashes and with several processes
// at once: each change of a request holds a lock. Denying always wins over a session that has not begun.
//
// The package starts no session, sends nothing and reads no clock. What it reads is limited in size. A Folder may be
// used by many goroutines and processes at once.
package debugfolder
