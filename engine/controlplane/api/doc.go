// Package api is shared by all route packages of the control plane: Route and its audience, the Caller passed to
// handlers, problem+json, bodies, event streams, and the descriptions of operations.
//
// It never authorises (package auth does, once for each request) and has no state. A route package (cellapi, peopleapi)
// consists of small structs whose methods are handlers; its Routes function returns the table of its routes. Package
// controlplane joins the tables.
//
// Every response written here is safe to show: internal errors go to the log through WriteError. Functions may be
// called from any goroutine.
package api
