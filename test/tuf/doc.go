// Package tuf judges signed repositories, good and attacked, by tuf-js, a client of TUF that is independent of ours. It
// is a module of its own, since it needs Node.
package tuf
