// Package api is what all sides of the control plane share: a Route and who may use it, the Caller that a handler is given,
// problem+json, bodies, event streams, and how an operation is described.
//
// It judges nobody (package auth does, once for each request) and keeps nothing. A side (cellapi, peopleapi) is a package
// whose handlers are methods of small structs, each with the few things that it needs; its Routes function returns them as
// a table. Package controlplane puts the tables together.
//
// Answers that are written here are safe to show: what happened inside goes to the log, by way of Failed. Functions may be
// called from any goroutine.
package api
