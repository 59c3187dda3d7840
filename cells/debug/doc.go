// Package debug defines access to a cell for debugging: what an employee of the vendor asks for, what the cell's owner
// permits, how the cell proves its host key, and the record that both sides keep.
//
// A Request is signed by the SSH key of the person who asks; that key alone can use the session. A Permission is made
// in the cell, by its owner, and nowhere else; it is for one session. Whatever the control plane stores, passes on or
// makes up, it can neither ask in a person's name nor permit anything (D1, D4).
//
// The package is pure: it does no I/O and reads no clock; a PodShell's streams it only names. Everything in it may be
// called at once.
package debug
